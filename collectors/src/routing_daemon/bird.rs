//! BIRD's control protocol (`nest/cli.c`, `client/client.c` of BIRD 1.6 and 2).
//!
//! Every line begins with a code of four digits and `-`, or a blank when the code is that of the line before; a
//! blank after the digits ends the answer. Codes from 8000 on are errors. Files hold what `birdc` would print.

use std::io;

use knet_snapshot::routing_daemon;

use super::control::Control;
use super::{Session, file_name, is_name};

const PROTOCOLS: &str = "show_protocols_all.txt";

/// Asks for the sessions, the routes, and what is announced on each session that is up.
pub(super) fn ask(session: &mut Session<'_>) {
    let begun = session.connect(|_| true).and_then(|mut control| {
        let greeting = answer(&mut control, session)?.text;
        control.send(b"restrict\n")?;
        let restricted = answer(&mut control, session)?;
        // Without it a slip of ours could change something.
        if restricted.code != 16 {
            return Err(io::Error::other("it does not know `restrict`"));
        }
        Ok((control, greeting))
    });
    let (mut control, greeting) = match begun {
        Ok(begun) => begun,
        Err(e) => return session.mute(PROTOCOLS, &e),
    };
    let mut ask = |session: &mut Session<'_>, file: &str, command: &str| {
        let said = said(&mut control, session, command);
        let text = said.map(|text| [greeting.as_slice(), &text].concat());
        let protocols = text.as_deref().ok().map(routing_daemon::bird::protocols);
        // Behind an answer that did not end, the next one cannot be told.
        let lost = text.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::InvalidInput);
        session.keep(file, command, text);
        (!lost).then(|| protocols.unwrap_or_default())
    };
    if ask(session, "show_status.txt", "show status").is_none() {
        return;
    }
    let Some(protocols) = ask(session, PROTOCOLS, "show protocols all") else {
        return;
    };
    for peer in protocols.iter().filter(|peer| peer.is_up() && is_name(&peer.name)) {
        let file = format!("show_route_export_{}.txt", file_name(&peer.name));
        let command = format!("show route export {}", quoted(&peer.name));
        if ask(session, &file, &command).is_none() {
            return;
        }
    }
    // What may be long comes last.
    let _ = ask(session, "show_route_all.txt", "show route all");
}

fn quoted(name: &str) -> String {
    match name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        true => name.to_owned(),
        false => format!("'{name}'"),
    }
}

struct Answer {
    code: u16,
    text: Vec<u8>,
}

/// One answer. A refusal is `InvalidInput`, after which the next question can be asked.
fn said(control: &mut Control, session: &Session<'_>, command: &str) -> io::Result<Vec<u8>> {
    control.send(format!("{command}\n").as_bytes())?;
    let Answer { code, text } = answer(control, session)?;
    if code < 8000 {
        return Ok(text);
    }
    let text = String::from_utf8_lossy(&text);
    let why = text.lines().last().unwrap_or_default();
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{command}: {why}")))
}

fn answer(control: &mut Control, session: &Session<'_>) -> io::Result<Answer> {
    // The beginning of the line that is not complete yet.
    let mut line = 0;
    let raw = control.receive(session.time(), |bytes, new| {
        let mut at = new;
        while let Some(end) = bytes[at..].iter().position(|&b| b == b'\n') {
            let text = &bytes[line..at + end];
            at += end + 1;
            line = at;
            if code(text).is_some_and(|(_, last)| last) {
                return Some(at);
            }
        }
        None
    })?;
    Ok(printed(&raw))
}

/// The code a line begins with, and whether it ends the answer.
fn code(line: &[u8]) -> Option<(u16, bool)> {
    let (digits, mark) = (line.get(..4)?, *line.get(4)?);
    let last = match mark {
        b' ' => true,
        b'-' => false,
        _ => return None,
    };
    let code = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((code, last))
}

/// An answer as `birdc` prints it: without codes, without a line for the code that says nothing, and without log
/// messages that came in between.
fn printed(raw: &[u8]) -> Answer {
    let mut answer = Answer {
        code: 0,
        text: Vec::with_capacity(raw.len()),
    };
    for line in raw.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        let text = match (code(line), line) {
            (Some((code, last)), _) => {
                if last {
                    answer.code = code;
                }
                match code {
                    0 => continue,
                    _ => &line[5..],
                }
            }
            (None, [b' ', rest @ ..]) => rest,
            (None, _) => continue,
        };
        answer.text.extend_from_slice(text);
        answer.text.push(b'\n');
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_what_birdc_prints() {
        let raw = b"2002-Name Proto\n1002-a BGP\n b BGP\n+5000 log: not ours\n1006-  Description: x\n \n0000 \n";
        let said = printed(raw);
        assert_eq!(
            (said.code, String::from_utf8_lossy(&said.text).as_ref()),
            (0, "Name Proto\na BGP\nb BGP\n  Description: x\n\n")
        );
        let refused = printed(b"9001 syntax error\n");
        assert_eq!((refused.code, refused.text.as_slice()), (9001, &b"syntax error\n"[..]));
    }

    #[test]
    fn names_are_no_paths_and_no_commands() {
        assert_eq!(quoted("Mesh_172_16_0_12"), "Mesh_172_16_0_12");
        assert_eq!(quoted("Mesh-x.1"), "'Mesh-x.1'");
        for bad in ["", "../../x", "a b", "a'b", "a\nconfigure"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
