//! A server that behaves like an API server as far as a capture can tell: lists by pages, pods that come up, exec
//! over WebSocket, and faults where a test wants them. What is executed in a pod is executed on this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Creating a pod is refused with this status and message.
    pub create: Option<(u16, String)>,
    /// Pods wait for this reason and never run.
    pub waiting: Option<String>,
    /// The connection of an exec is cut in the middle of its answer.
    pub cut_exec: bool,
    /// An exec never answers.
    pub hang_exec: bool,
    /// What is executed fails with this code.
    pub exec_code: Option<i32>,
    /// The second page of a list has expired; with a token to go on, or without.
    pub expired: Option<bool>,
    /// The first so many requests get this status.
    pub first: (u32, u16),
    /// Each list takes so long.
    pub slow: Duration,
    /// Lists of this resource are forbidden.
    pub forbidden: Option<String>,
    /// The agent's answer is this instead of its own.
    pub answer: Option<Vec<u8>>,
}

/// Everything the server knows.
#[derive(Default)]
pub struct State {
    /// Objects by the last word of their path (`pods`, `nodes`, ...).
    pub objects: BTreeMap<String, Vec<Value>>,
    /// Agents by name.
    pub agents: BTreeMap<String, Value>,
    /// Names of all agents there ever were.
    pub created: BTreeSet<String>,
    /// Method and path of every request.
    pub requests: Vec<String>,
    /// What goes wrong.
    pub faults: Faults,
    /// More arguments for `node-collect` by node.
    pub arguments: BTreeMap<String, String>,
    /// The program in the place of `/kubectl-knet`.
    pub program: PathBuf,
    /// Largest number of agents at once.
    pub most: usize,
}

/// A running server.
pub struct FakeApi {
    state: Arc<Mutex<State>>,
    port: u16,
}

impl FakeApi {
    /// Starts on a port of its own.
    pub fn start(program: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::new(Mutex::new(State {
            program: program.into(),
            ..State::default()
        }));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { state, port }
    }

    /// Looks at or changes what it knows.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics with it")
    }

    /// A kubeconfig for it.
    pub fn kubeconfig(&self, folder: &Path) -> String {
        let path = folder.join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": format!("http://127.0.0.1:{}", self.port)}}],
            "users": [{"name": "fake", "user": {"token": "t"}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        });
        std::fs::write(&path, text.to_string()).expect("a file");
        path.display().to_string()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no thread panics with it")
}

struct Request {
    method: String,
    path: String,
    query: Vec<(String, String)>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((key, value)) => headers.insert(key.to_ascii_lowercase(), value.trim().to_owned()),
            None => break,
        };
    }
    let length = headers.get("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect();
    Some(Request {
        method,
        path: path.to_owned(),
        query,
        headers,
        body,
    })
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        match b {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex: String = rest.by_ref().take(2).map(char::from).collect();
                bytes.push(u8::from_str_radix(&hex, 16).expect("percent and two digits"));
            }
            b => bytes.push(b),
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}

fn serve(stream: &TcpStream, state: &Arc<Mutex<State>>) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        lock(state)
            .requests
            .push(format!("{} {}", request.method, request.path));
        if request.headers.contains_key("upgrade") {
            exec(stream, &request, state);
            return;
        }
        let (code, body) = answer(&request, state);
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let mut stream = stream;
        if stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(body.as_bytes()))
            .is_err()
        {
            return;
        }
    }
}

fn status(code: u16, message: &str) -> (u16, Value) {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": "X", "code": code, "metadata": {}});
    (code, body)
}

fn answer(request: &Request, state: &Arc<Mutex<State>>) -> (u16, Value) {
    {
        let mut state = lock(state);
        if state.faults.first.0 > 0 {
            state.faults.first.0 -= 1;
            return status(state.faults.first.1, "not now");
        }
    }
    let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    let last = *parts.last().unwrap_or(&"");
    match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["api", "v1", "nodes", name]) => {
            let state = lock(state);
            let found = state.objects["nodes"].iter().find(|n| n["metadata"]["name"] == *name);
            found.map_or_else(|| status(404, "no such node"), |node| (200, node.clone()))
        }
        ("POST", ["api", "v1", "namespaces", _, "pods"]) => create(request, &mut lock(state)),
        ("GET", ["api", "v1", "namespaces", _, "pods", name]) => {
            let state = lock(state);
            let others = state.objects.get("pods").into_iter().flatten();
            let pod = state
                .agents
                .get(*name)
                .or_else(|| others.into_iter().find(|p| p["metadata"]["name"] == *name));
            pod.map_or_else(|| status(404, "no such pod"), |pod| (200, pod.clone()))
        }
        ("DELETE", ["api", "v1", "namespaces", _, "pods", name]) => match lock(state).agents.remove(*name) {
            Some(pod) => (200, pod),
            None => status(404, "no such pod"),
        },
        ("GET", _) if request.query.iter().any(|(key, _)| key == "labelSelector") => {
            let items: Vec<Value> = lock(state).agents.values().cloned().collect();
            (
                200,
                json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}),
            )
        }
        ("GET", _) => list(request, last, state),
        _ => status(405, "what?"),
    }
}

fn create(request: &Request, state: &mut State) -> (u16, Value) {
    if let Some((code, message)) = &state.faults.create {
        return status(*code, message);
    }
    let mut pod: Value = serde_json::from_slice(&request.body).expect("a pod");
    let name = pod["metadata"]["name"].as_str().expect("a name").to_owned();
    pod["status"] = match &state.faults.waiting {
        Some(reason) => {
            json!({"phase": "Pending", "containerStatuses": [{"name": "agent", "ready": false, "restartCount": 0,
            "image": "", "imageID": "", "state": {"waiting": {"reason": reason, "message": "says the kubelet"}}}]})
        }
        None => json!({"phase": "Running", "containerStatuses": [{"name": "agent", "ready": true, "restartCount": 0,
            "image": "", "imageID": "", "state": {"running": {}}}]}),
    };
    state.created.insert(name.clone());
    state.agents.insert(name, pod.clone());
    state.most = state.most.max(state.agents.len());
    (201, pod)
}

fn list(request: &Request, resource: &str, state: &Arc<Mutex<State>>) -> (u16, Value) {
    let slow = lock(state).faults.slow;
    thread::sleep(slow);
    let mut state = lock(state);
    if state.faults.forbidden.as_deref() == Some(resource) {
        return status(
            403,
            &format!("{resource} is forbidden: User \"me\" cannot list resource"),
        );
    }
    let value = |key: &str| request.query.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
    let from: usize = value("continue")
        .and_then(|t| t.trim_start_matches("fresh-").parse().ok())
        .unwrap_or(0);
    if let Some(goes_on) = state.faults.expired.filter(|_| from > 0) {
        state.faults.expired = None;
        let (code, mut body) = status(410, "The provided continue parameter is too old");
        if goes_on {
            body["metadata"]["continue"] = json!(format!("fresh-{from}"));
        }
        return (code, body);
    }
    let limit: usize = value("limit").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
    let all = state.objects.get(resource).map(Vec::as_slice).unwrap_or_default();
    let page: Vec<Value> = all.iter().skip(from).take(limit).cloned().collect();
    let next = from + page.len();
    let token = if next < all.len() {
        next.to_string()
    } else {
        String::new()
    };
    (
        200,
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"continue": token}, "items": page}),
    )
}

/// `v5.channel.k8s.io`: the first byte of a message is its channel, 255 closes one.
fn exec(stream: &TcpStream, request: &Request, state: &Arc<Mutex<State>>) {
    let key = request.headers.get("sec-websocket-key").expect("a key");
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    let mut raw = stream.try_clone().expect("a second handle");
    raw.write_all(head.as_bytes()).expect("it is written");
    let mut socket = WebSocket::from_raw_socket(raw, Role::Server, None);
    let argv: Vec<String> = request
        .query
        .iter()
        .filter(|(k, _)| k == "command")
        .map(|(_, v)| v.clone())
        .collect();
    let sends = request.query.iter().any(|(k, v)| k == "stdin" && v == "true");
    let mut input = Vec::new();
    if sends {
        loop {
            match socket.read() {
                Ok(Message::Binary(bytes)) if bytes.first() == Some(&255) => break,
                Ok(Message::Binary(bytes)) if bytes.first() == Some(&0) => input.extend_from_slice(&bytes[1..]),
                Ok(Message::Close(_)) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
    let faults = lock(state).faults.clone();
    if faults.hang_exec {
        // Until the other side goes.
        while socket.read().is_ok() {}
        return;
    }
    let (mut code, mut out, err) = run(&argv, &input, state);
    if let Some(answer) = faults.answer {
        out = answer;
    }
    code = faults.exec_code.unwrap_or(code);
    if faults.cut_exec {
        let half = [&[1], &out[..out.len() / 2]].concat();
        let _ = socket.send(Message::Binary(half.into()));
        let _ = stream.shutdown(std::net::Shutdown::Both);
        return;
    }
    for (channel, bytes) in [(1, out), (2, err)] {
        for piece in bytes.chunks(32 << 10) {
            let _ = socket.send(Message::Binary([&[channel], piece].concat().into()));
        }
    }
    let end = match code {
        0 => json!({"metadata": {}, "status": "Success"}),
        code => json!({"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]}}),
    };
    let _ = socket.send(Message::Binary([&[3], end.to_string().as_bytes()].concat().into()));
    let _ = socket.close(None);
    while socket.read().is_ok() {}
}

fn run(argv: &[String], input: &[u8], state: &Arc<Mutex<State>>) -> (i32, Vec<u8>, Vec<u8>) {
    let mut argv = argv.to_vec();
    {
        let state = lock(state);
        if argv[0] == "/kubectl-knet" {
            argv[0] = state.program.display().to_string();
        }
        for (node, more) in &state.arguments {
            for word in &mut argv {
                *word = word.replace(&format!("'--node' '{node}'"), &format!("'--node' '{node}' {more}"));
            }
        }
    }
    let mut child = Command::new(&argv[0])
        .args(&argv[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let writer = thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let out = child.wait_with_output().expect("it ends");
    writer.join().expect("it does not panic");
    (out.status.code().unwrap_or(255), out.stdout, out.stderr)
}
