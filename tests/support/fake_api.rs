//! A server that behaves like an API server as far as a capture can tell: lists by pages, pods that come up, exec
//! over WebSocket, and faults where a test wants them. What is executed in a pod is executed on this machine.

#[path = "fake_api/exec.rs"]
mod exec;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// What goes wrong.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Creating a pod is refused with this status and message.
    pub create: Option<(u16, String)>,
    /// Pods wait for this reason and never run.
    pub waiting: Option<String>,
    /// The connections of the first so many execs are cut in the middle of their answer.
    pub cut_exec: u32,
    /// What becomes of an agent in the middle of its answer.
    pub half_way: Option<HalfWay>,
    /// An exec never answers.
    pub hang_exec: bool,
    /// What is executed fails with this code.
    pub exec_code: Option<i32>,
    /// The second page of a list has expired, so often; with a token to go on, or without.
    pub expired: Option<(bool, u32)>,
    /// The first so many requests get this status.
    pub first: (u32, u16),
    /// Each list takes so long.
    pub slow: Duration,
    /// Lists of this resource are forbidden.
    pub forbidden: Option<String>,
    /// The agent's answer is this instead of its own.
    pub answer: Option<Vec<u8>>,
    /// Requests that are refused.
    pub refuse: Vec<Refusal>,
    /// The connections of the first so many lists of this resource are cut in the middle of a page.
    pub cut_list: Option<(&'static str, u32)>,
    /// Pages come in so many pieces, with a pause after each.
    pub trickle: Option<(usize, Duration)>,
    /// Half of what an exec answers is sent, and then no more.
    pub stall: bool,
    /// A pod is taken away so long after that was asked for, whoever still waits.
    pub slow_delete: Duration,
    /// A pod is made so long after it was asked for, whoever still waits.
    pub late: Duration,
}

/// Requests that get a status instead of an answer.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Method.
    pub method: &'static str,
    /// How the path ends.
    pub path: &'static str,
    /// How many of them.
    pub times: u32,
    /// Status.
    pub code: u16,
    /// Its message.
    pub message: String,
    /// `Retry-After`, seconds.
    pub retry_after: Option<u32>,
}

/// What becomes of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfWay {
    /// Kubelet evicts its pod.
    Evicted,
    /// Somebody deletes its pod.
    Deleted,
    /// Its node is taken out of the cluster, and the pod with it.
    NodeGone,
}

/// What a node answers.
pub type Answer = fn(&str) -> Vec<u8>;

/// The least that is an answer.
pub fn small(node: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let manifest = json!({"schema": "knet.snapshot/v1", "nodes": [{"name": node, "status": "complete"}]}).to_string();
    let link = r#"[{"ifindex":1,"ifname":"lo","flags":["LOOPBACK"],"mtu":65536}]"#;
    for (path, text) in [
        ("manifest.json", manifest.as_str()),
        (&format!("nodes/{node}/host/link.json"), link),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        tar.append_data(&mut header, path, text.as_bytes())
            .expect("it is written");
    }
    tar.into_inner().expect("it is ended")
}

/// Everything the server knows.
#[derive(Default)]
pub struct State {
    /// Objects by the last word of their path (`pods`, `nodes`, ...).
    pub objects: BTreeMap<String, Vec<Value>>,
    /// Agents by name.
    pub agents: BTreeMap<String, Value>,
    /// All agents as they were asked for.
    pub asked: Vec<Value>,
    /// Names of all agents there ever were.
    pub created: BTreeSet<String>,
    /// Method and path of every request.
    pub requests: Vec<String>,
    /// Connections that were asked for as of a proxy.
    pub tunnels: usize,
    /// Headers of theirs that say in whose name, each once.
    pub in_the_name_of: BTreeSet<String>,
    /// Keys and values of their queries.
    pub queries: BTreeSet<String>,
    /// What goes wrong.
    pub faults: Faults,
    /// More arguments for `node-collect` by node.
    pub arguments: BTreeMap<String, String>,
    /// What each node answers, instead of running the program.
    pub canned: Option<Answer>,
    /// The program in the place of `/kubectl-knet`.
    pub program: PathBuf,
    /// Largest number of agents at once.
    pub most: usize,
}

/// A running server.
pub struct FakeApi {
    state: Arc<Mutex<State>>,
    /// On this machine.
    pub port: u16,
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
        let shop = json!({"cluster": "fake", "user": "fake", "namespace": "shop"});
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": format!("http://127.0.0.1:{}", self.port)}}],
            "users": [{"name": "fake", "user": {"token": "t"}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}, {"name": "shop", "context": shop}],
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

impl Request {
    fn is_labelled(&self) -> bool {
        self.query.iter().any(|(key, _)| key == "labelSelector")
    }
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
        // A proxy in front of itself: what comes next is for the server.
        if request.method == "CONNECT" {
            lock(state).tunnels += 1;
            let mut stream = stream;
            if stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").is_err() {
                return;
            }
            continue;
        }
        {
            let mut state = lock(state);
            state.requests.push(format!("{} {}", request.method, request.path));
            let named = request
                .headers
                .iter()
                .filter(|(key, _)| key.starts_with("impersonate-"));
            state
                .in_the_name_of
                .extend(named.map(|(key, value)| format!("{key}: {value}")));
            state
                .queries
                .extend(request.query.iter().map(|(key, value)| format!("{key}={value}")));
        }
        if let Some((code, body, header)) = refused(&request, state) {
            if send(stream, code, &body.to_string(), &header, None).is_err() {
                return;
            }
            continue;
        }
        if request.headers.contains_key("upgrade") {
            exec::exec(stream, &request, state);
            return;
        }
        if cut(&request, state) {
            let mut stream = stream;
            let _ = stream.write_all(b"HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\n{\"kind\":\"List\",\"items\":[{");
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
        let (code, body) = answer(&request, state);
        let trickle = lock(state).faults.trickle;
        if send(stream, code, &body.to_string(), "", trickle).is_err() {
            return;
        }
    }
}

fn send(
    mut stream: &TcpStream,
    code: u16,
    body: &str,
    header: &str,
    trickle: Option<(usize, Duration)>,
) -> std::io::Result<()> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {code} X\r\nContent-Type: application/json\r\n{header}Content-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let (pieces, pause) = trickle.unwrap_or((1, Duration::ZERO));
    for piece in body.as_bytes().chunks(length.div_ceil(pieces).max(1)) {
        stream.write_all(piece)?;
        thread::sleep(pause);
    }
    Ok(())
}

/// The status that a fault has for a request, and a header.
fn refused(request: &Request, state: &Arc<Mutex<State>>) -> Option<(u16, Value, String)> {
    let mut state = lock(state);
    let refusal = state
        .faults
        .refuse
        .iter_mut()
        .find(|r| r.times > 0 && r.method == request.method && request.path.ends_with(r.path))?;
    refusal.times -= 1;
    let header = refusal.retry_after.map(|seconds| format!("Retry-After: {seconds}\r\n"));
    let (code, body) = status(refusal.code, &refusal.message);
    Some((code, body, header.unwrap_or_default()))
}

fn cut(request: &Request, state: &Arc<Mutex<State>>) -> bool {
    let mut state = lock(state);
    match &mut state.faults.cut_list {
        Some((resource, times)) if *times > 0 && request.path.ends_with(*resource) => {
            *times -= 1;
            true
        }
        _ => false,
    }
}

fn status(code: u16, message: &str) -> (u16, Value) {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "AlreadyExists",
        410 => "Expired",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code, "metadata": {}});
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
        ("POST", ["api", "v1", "namespaces", _, "pods"]) => {
            let late = lock(state).faults.late;
            thread::sleep(late);
            create(request, &mut lock(state))
        }
        ("GET", [.., "namespaces", namespace, resource]) if !request.is_labelled() => {
            list(request, resource, Some(namespace), state)
        }
        ("GET", ["api", "v1", "namespaces", _, "pods", name]) => {
            let state = lock(state);
            let others = state.objects.get("pods").into_iter().flatten();
            let pod = state
                .agents
                .get(*name)
                .or_else(|| others.into_iter().find(|p| p["metadata"]["name"] == *name));
            pod.map_or_else(|| status(404, "no such pod"), |pod| (200, pod.clone()))
        }
        ("DELETE", ["api", "v1", "namespaces", _, "pods", name]) => {
            let slow = lock(state).faults.slow_delete;
            thread::sleep(slow);
            match lock(state).agents.remove(*name) {
                Some(pod) => (200, pod),
                None => status(404, "no such pod"),
            }
        }
        ("GET", _) if request.is_labelled() => {
            let items: Vec<Value> = lock(state).agents.values().cloned().collect();
            (
                200,
                json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}),
            )
        }
        ("GET", _) => list(request, last, None, state),
        _ => status(405, "what?"),
    }
}

fn create(request: &Request, state: &mut State) -> (u16, Value) {
    if let Some((code, message)) = &state.faults.create {
        return status(*code, message);
    }
    let mut pod: Value = serde_json::from_slice(&request.body).expect("a pod");
    let name = pod["metadata"]["name"].as_str().expect("a name").to_owned();
    state.asked.push(pod.clone());
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

fn list(request: &Request, resource: &str, namespace: Option<&str>, state: &Arc<Mutex<State>>) -> (u16, Value) {
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
    if let Some((goes_on, times)) = state.faults.expired.filter(|(_, times)| from > 0 && *times > 0) {
        state.faults.expired = Some((goes_on, times - 1));
        let (code, mut body) = status(410, "The provided continue parameter is too old");
        if goes_on {
            body["metadata"]["continue"] = json!(format!("fresh-{from}"));
        }
        return (code, body);
    }
    let limit: usize = value("limit").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
    let all = state.objects.get(resource).map(Vec::as_slice).unwrap_or_default();
    let inside = |object: &&Value| namespace.is_none_or(|namespace| object["metadata"]["namespace"] == namespace);
    let page: Vec<Value> = all.iter().filter(inside).skip(from).take(limit).cloned().collect();
    let next = from + page.len();
    let whole = namespace.map_or(all.len(), |_| all.iter().filter(inside).count());
    let mut metadata = json!({});
    if next < whole {
        metadata = json!({"continue": next.to_string(), "remainingItemCount": whole - next});
    }
    (
        200,
        json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": page}),
    )
}
