//! As much of JSON Schema as the published schemas use, to hold documents against them.

use serde_json::Value;

/// Does `value` conform to `schema`? Every property must be known: a field that the schema does not name
/// was forgotten there.
pub fn conforms(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    if schema == &Value::Bool(true) {
        return Ok(());
    }
    if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
        let target = root
            .pointer(path.trim_start_matches('#'))
            .ok_or_else(|| format!("{path} leads nowhere"))?;
        return conforms(root, target, value, at);
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(options) = schema.get(key).and_then(Value::as_array) {
            let results: Vec<_> = options
                .iter()
                .map(|o| conforms(root, &merged(schema, target(root, o), key), value, at))
                .collect();
            if results.iter().all(Result::is_err) {
                let last = results
                    .into_iter()
                    .filter_map(Result::err)
                    .collect::<Vec<_>>()
                    .join(" | ");
                return Err(format!("{at}: no option fits: {last}"));
            }
            return Ok(());
        }
    }
    if let Some(wanted) = schema.get("const")
        && wanted != value
    {
        return Err(format!("{at}: {value} is not {wanted}"));
    }
    if let Some(all) = schema.get("enum").and_then(Value::as_array)
        && !all.contains(value)
    {
        return Err(format!("{at}: {value} is none of {all:?}"));
    }
    if let Some(kind) = schema.get("type") {
        let kinds: Vec<&str> = kind.as_array().map_or_else(
            || kind.as_str().into_iter().collect(),
            |a| a.iter().filter_map(Value::as_str).collect(),
        );
        if !kinds.iter().any(|k| is(k, value)) {
            return Err(format!("{at}: {value} is no {kinds:?}"));
        }
    }
    if let (Some(items), Some(list)) = (schema.get("items"), value.as_array()) {
        for (i, item) in list.iter().enumerate() {
            conforms(root, items, item, &format!("{at}[{i}]"))?;
        }
    }
    let (Some(properties), Some(object)) = (schema.get("properties").and_then(Value::as_object), value.as_object())
    else {
        return Ok(());
    };
    for required in schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !object.contains_key(required) {
            return Err(format!("{at}: {required} is missing"));
        }
    }
    for (key, inner) in object {
        match properties.get(key) {
            Some(schema) => conforms(root, schema, inner, &format!("{at}.{key}"))?,
            None => return Err(format!("{at}: {key} is not in the schema")),
        }
    }
    Ok(())
}

/// Where an option leads that is a reference.
fn target<'v>(root: &'v Value, option: &'v Value) -> &'v Value {
    let path = option.get("$ref").and_then(Value::as_str);
    path.and_then(|p| root.pointer(p.trim_start_matches('#')))
        .unwrap_or(option)
}

/// An option together with the properties that stand beside the list of options (a flattened enum).
fn merged(schema: &Value, option: &Value, key: &str) -> Value {
    let Some(outer) = schema.as_object().filter(|o| o.contains_key("properties")) else {
        return option.clone();
    };
    let mut merged = option.clone();
    if let Some(inner) = merged.as_object_mut() {
        for (name, value) in outer.iter().filter(|(name, _)| *name != key) {
            match (inner.get_mut(name), value) {
                (Some(Value::Object(mine)), Value::Object(theirs)) => {
                    for (k, v) in theirs {
                        mine.entry(k.clone()).or_insert_with(|| v.clone());
                    }
                }
                (Some(Value::Array(mine)), Value::Array(theirs)) if name == "required" => {
                    mine.extend(theirs.iter().cloned());
                }
                (Some(_), _) => {}
                (None, _) => {
                    inner.insert(name.clone(), value.clone());
                }
            }
        }
    }
    merged
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}
