//! Exec over WebSocket.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use super::{HalfWay, Request, State, lock};

/// `v5.channel.k8s.io`: the first byte of a message is its channel, 255 closes one.
pub(super) fn exec(stream: &TcpStream, request: &Request, state: &Arc<Mutex<State>>) {
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
    let faults = {
        let mut state = lock(state);
        let faults = state.faults.clone();
        state.faults.cut_exec = faults.cut_exec.saturating_sub(1);
        faults
    };
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
    let agent = request
        .path
        .trim_end_matches("/exec")
        .rsplit('/')
        .next()
        .unwrap_or_default();
    if let Some(became) = faults.half_way {
        half_way(became, agent, state);
    }
    if faults.cut_exec > 0 || faults.half_way.is_some() {
        let half = [&[1], &out[..out.len() / 2]].concat();
        let _ = socket.send(Message::Binary(half.into()));
        let _ = stream.shutdown(std::net::Shutdown::Both);
        return;
    }
    if faults.stall {
        let half = [&[1], &out[..out.len() / 2]].concat();
        let _ = socket.send(Message::Binary(half.into()));
        while socket.read().is_ok() {}
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

fn half_way(became: HalfWay, agent: &str, state: &Arc<Mutex<State>>) {
    let mut state = lock(state);
    match became {
        HalfWay::Evicted => {
            if let Some(pod) = state.agents.get_mut(agent) {
                pod["status"] =
                    json!({"phase": "Failed", "reason": "Evicted", "message": "the node was low on memory"});
            }
        }
        HalfWay::Deleted => {
            state.agents.remove(agent);
        }
        HalfWay::NodeGone => {
            let pod = state.agents.remove(agent);
            let node = pod.map(|pod| pod["spec"]["nodeName"].clone()).unwrap_or_default();
            if let Some(nodes) = state.objects.get_mut("nodes") {
                nodes.retain(|n| n["metadata"]["name"] != node);
            }
        }
    }
}

fn run(argv: &[String], input: &[u8], state: &Arc<Mutex<State>>) -> (i32, Vec<u8>, Vec<u8>) {
    let mut argv = argv.to_vec();
    let canned = lock(state).canned;
    if let Some(answer) = canned {
        let node = argv.iter().skip_while(|word| *word != "--node").nth(1);
        return (0, answer(node.expect("it is told its name")), Vec::new());
    }
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
