//! Whatever the file says, there is an answer.

use proptest::prelude::*;

use super::*;

const RULES: &[&str] = &[
    r#"{"match":{"op":"==","left":{"&":[{"meta":{"key":"mark"}},255]},"right":{"range":[1,9]}}},{"accept":null}"#,
    r#"{"vmap":{"key":{"concat":[{"payload":{"protocol":"ip","field":"daddr"}},{"payload":{"base":"th","offset":16,"len":16}}]},"data":{"set":[[{"concat":[{"prefix":{"addr":"10.0.0.0","len":8}},{"range":[80,90]}]},{"jump":{"target":"sub"}}]]}}}"#,
    r#"{"dnat":{"family":"ip","addr":{"map":{"key":{"numgen":{"mode":"inc","mod":3,"offset":1}},"data":{"set":[[1,{"concat":["10.0.0.6",80]}]]}}},"port":80}}"#,
    r#"{"mangle":{"key":{"payload":{"protocol":"ip","field":"dscp"}},"value":{"map":{"key":{"ct":{"key":"saddr","dir":"original"}},"data":{"set":[["10.0.0.9","cs1"]]}}}}}"#,
    r#"{"mangle":{"key":{"meta":{"key":"mark"}},"value":{"jhash":{"mod":4,"seed":2748,"offset":2,"expr":{"payload":{"protocol":"ip","field":"saddr"}}}}}}"#,
    r#"{"match":{"op":"<","left":{"meta":{"key":"random"}},"right":1000}},{"reject":null}"#,
    r#"sub:{"set":{"op":"add","elem":{"payload":{"protocol":"ip","field":"saddr"}},"set":"@s"}},{"goto":{"target":"sub"}}"#,
    r#"{"fib":{"result":"oif","flags":["saddr","iif"]}},{"limit":{"rate":1,"per":"second"}},{"queue":{"flags":"bypass"}}"#,
];

const SET: &str = r#"{"set":{"family":"FAM","name":"s","table":"t","type":"ipv4_addr","handle":5,"flags":["interval","timeout"],"elem":[{"prefix":{"addr":"10.244.0.0","len":16}},"*"]}}"#;

const WORDS: &[&str] = &[
    "0",
    "-1",
    "340282366920938463463374607431768211456",
    "null",
    "[]",
    "{}",
    "\"\"",
    "\"*\"",
    "128",
    "true",
    "\"sub\"",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_mutated_ruleset_never_panics(
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..6_u8), 1..6),
        v6 in any::<bool>(),
    ) {
        let mut text = ruleset("inet", "forward", RULES, &[SET]);
        for (at, word, how) in cuts {
            if text.is_empty() {
                break;
            }
            let digits: Vec<usize> = text.bytes().enumerate().filter(|(_, b)| b.is_ascii_digit()).map(|(i, _)| i).collect();
            let word = WORDS[word.index(WORDS.len())];
            let byte = at.index(text.len());
            match how {
                0 | 1 if !digits.is_empty() => {
                    let i = digits[at.index(digits.len())];
                    text.replace_range(i..=i, word);
                }
                2 => text.replace_range(byte..=byte, "9"),
                3 => text.truncate(byte),
                4 => text = text.replacen("\"ip\"", word, 1),
                _ => text = text.replacen("10.0.0", "10.0", 1),
            }
        }
        let snapshot = snapshot(&[("nft.json", &text)]);
        let skb = if v6 { tcp("fd00::9", "fd00::5", 80) } else { tcp("10.0.0.9", "10.244.0.5", 85) };
        let _ = walk(&snapshot, Hook::Forward, &skb, true);
    }
}
