//! The inventory for people.

use super::inventory::{Absence, Inventory, SystemRow};

/// More lines of one kind than this are counted instead.
const LINES: usize = 20;

/// Lays the inventory out.
pub(super) fn render(inventory: &Inventory, width: usize) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&cut(&text, width));
        out.push('\n');
    };
    match &inventory.manifest {
        Some(made) => {
            line(format!(
                "{} by {} ({}), redaction: {}",
                made.schema, made.tool, made.origin, made.redaction
            ));
            line(format!("captured {} to {}", made.start, made.end));
        }
        None => line("no manifest: nothing says when and how this was captured".to_owned()),
    }
    let objects: Vec<String> = inventory
        .cluster
        .iter()
        .map(|(kind, count)| count.map_or_else(|| format!("{kind} ?"), |count| format!("{count} {kind}")))
        .collect();
    line(format!("cluster: {}", objects.join(", ")));
    line(String::new());
    let mut rows = vec![
        [
            "NODE",
            "STATUS",
            "KERNEL",
            "NETNS",
            "PODS",
            "FILES",
            "SIZE",
            "NOT LOOKED AT",
        ]
        .map(String::from),
    ];
    rows.extend(inventory.nodes.iter().map(|node| {
        [
            node.name.clone(),
            node.status.clone().unwrap_or_else(|| "-".to_owned()),
            node.kernel.clone().unwrap_or_else(|| "-".to_owned()),
            node.namespaces.to_string(),
            node.pods.to_string(),
            node.files.to_string(),
            size(node.bytes),
            node.not_looked_at.to_string(),
        ]
    }));
    columns(&rows, &mut line);
    systems(inventory, &mut line);
    let (empty, unknown): (Vec<&Absence>, Vec<&Absence>) = inventory.absent.iter().partition(|absence| absence.empty);
    absences("Nobody looked (what needs it is unknown)", &unknown, &mut line);
    absences("Empty, because the kernel cannot hold it", &empty, &mut line);
    if !inventory.problems.is_empty() {
        line(String::new());
        line(format!("Problems ({})", inventory.problems.len()));
        for problem in inventory.problems.iter().take(LINES) {
            let at = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
            let place = if problem.artifact.is_empty() {
                "(snapshot)"
            } else {
                &problem.artifact
            };
            line(format!("  {place}{at}: {}", problem.what));
        }
        more(inventory.problems.len(), &mut line);
    }
    out
}

/// Network systems, those of several nodes on one line.
fn systems(inventory: &Inventory, line: &mut impl FnMut(String)) {
    let mut all: Vec<(&SystemRow, Vec<&str>)> = Vec::new();
    for node in &inventory.nodes {
        for row in &node.systems {
            let same = |r: &SystemRow| r.system == row.system && r.at_work == row.at_work;
            match all.iter_mut().find(|(r, _)| same(r)) {
                Some((_, nodes)) => nodes.push(&node.name),
                None => all.push((row, vec![&node.name])),
            }
        }
    }
    if all.is_empty() {
        return;
    }
    line(String::new());
    line("Network systems".to_owned());
    let rows: Vec<[String; 4]> = all
        .iter()
        .map(|(row, nodes)| {
            let standing = match (row.standing, row.at_work) {
                ("programs", true) => "eBPF programs take the packets: outside the walk",
                ("switch", true) => "a switch of its own: the walk ends at its devices",
                ("modelled", _) => "walked",
                _ => "something is left of it",
            };
            let on = match nodes.len() {
                n if n == inventory.nodes.len() => "every node".to_owned(),
                1..=3 => nodes.join(", "),
                n => format!("{n} nodes"),
            };
            [format!("  {}", row.name), standing.to_owned(), on, row.signs.join(", ")]
        })
        .collect();
    columns(&rows, line);
}

fn absences(title: &str, absences: &[&Absence], line: &mut impl FnMut(String)) {
    if absences.is_empty() {
        return;
    }
    line(String::new());
    line(title.to_owned());
    let rows: Vec<[String; 4]> = absences
        .iter()
        .take(LINES)
        .map(|absence| {
            let reason = serde_json::to_value(absence.reason).ok();
            let reason = reason
                .as_ref()
                .and_then(|reason| reason.as_str())
                .unwrap_or("other")
                .to_owned();
            let places = if absence.of == 1 {
                String::new()
            } else {
                format!("{} of {}", absence.count, absence.of)
            };
            [
                format!("  {}", absence.artifact),
                reason,
                places,
                absence.detail.clone(),
            ]
        })
        .collect();
    columns(&rows, line);
    more(absences.len(), line);
}

fn more(count: usize, line: &mut impl FnMut(String)) {
    if count > LINES {
        line(format!("  ... and {} more (-o json has all)", count - LINES));
    }
}

/// Prints rows with every column as wide as its widest cell.
fn columns<const N: usize>(rows: &[[String; N]], line: &mut impl FnMut(String)) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        line(cells.join("  ").trim_end().to_owned());
    }
}

/// A line no longer than the screen.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
fn size(bytes: usize) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
