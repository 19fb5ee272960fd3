//! The commands that record the kernel's own trace, as text that a shell can read: what is no command is a
//! comment, and a command is one line however long.

use crate::against::verify::Verify;
use crate::explanation::Explanation;
use crate::render::commands::{self, quoted};

/// All commands, with a newline at the end. `again` is the command line that made them, without
/// `--verify-commands`.
pub fn script(explanation: &Explanation, verify: &Verify, again: &[String]) -> String {
    let mut out = String::from(
        "# Commands that record the kernel's own trace of this flow. knet runs none of them. As root, at each place:\n\
         # set up; watch in a terminal of its own; send the packet; stop watching; undo; compare.\n",
    );
    let mut line = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    let again: Vec<String> = again.iter().map(|word| quoted(word)).collect();
    for place in commands::all(explanation, verify) {
        let name = explanation.glossary.places.get(&place.place.ns);
        let pod = name.and_then(|n| n.pod.as_ref()).map(|pod| format!(" (pod {pod})"));
        let pod = pod.unwrap_or_default();
        line("");
        line(&format!("# {} {}{pod}", place.node, place.netns));
        for note in &place.notes {
            line(&format!("# {note}"));
        }
        for recording in &place.recordings {
            line(&format!("# set up ({})", recording.what));
            recording.set_up.iter().for_each(|command| line(command));
            line("# watch (Ctrl-C ends it)");
            line(&recording.watch);
            line("# undo");
            recording.undo.iter().for_each(|command| line(command));
            for note in &recording.notes {
                line(&format!("# {note}"));
            }
            line("# compare");
            line(&format!(
                "{} --against {} --against-node {}",
                again.join(" "),
                quoted(&recording.file),
                quoted(&format!("{}/{}", place.node, place.netns))
            ));
        }
    }
    out
}
