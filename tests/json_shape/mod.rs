//! What a JSON document looks like: which keys it has, and of what type each value is. Shapes are JSON themselves:
//!
//! * `"string"`, `"integer"`, `"number"`, `"boolean"`, `"object"` (of any keys), or the name of a type; with a `?` behind it also null;
//! * `[shape]`: an array;
//! * `{"key": shape}`: an object of these keys and no others, but for `"..."`, whose value is a type with further keys, `"*"`, which is
//!   any key, and a key with a `?` behind it, which may be missing;
//! * `{"one of": [...]}`: one of these texts.
//!
//! The schemas of an OpenAPI document can be written so, too.

use serde_json::{Map, Value, json};

/// Named shapes.
pub(crate) type Types = Map<String, Value>;

/// Where a document is not as its shape says; empty if it is.
pub(crate) fn differences(shape: &Value, types: &Types, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(shape, types, value, "", &mut found);
    found
}

fn compare(shape: &Value, types: &Types, value: &Value, at: &str, found: &mut Vec<String>) {
    let is_right = match shape {
        Value::String(name) if name.ends_with('?') && value.is_null() => true,
        Value::String(name) => match name.trim_end_matches('?') {
            "string" => value.is_string(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "object" => value.is_object(),
            name => {
                let named = types.get(name).unwrap_or_else(|| panic!("{name} is a type that is described"));
                return compare(named, types, value, at, found);
            }
        },
        Value::Array(items) => {
            let values = value.as_array();
            values.into_iter().flatten().for_each(|item| {
                compare(&items[0], types, item, &format!("{at}[]"), found);
            });
            values.is_some()
        }
        Value::Object(fields) => match fields.get("one of") {
            Some(texts) => texts.as_array().is_some_and(|texts| texts.contains(value)),
            None => {
                if let Some(values) = value.as_object() {
                    compare_keys(fields, types, values, at, found);
                }
                value.is_object()
            }
        },
        other => panic!("{other} is no shape"),
    };
    if !is_right {
        found.push(format!("{at} is {value}, not {shape}"));
    }
}

fn compare_keys(
    fields: &Types,
    types: &Types,
    values: &Map<String, Value>,
    at: &str,
    found: &mut Vec<String>,
) {
    let fields = flattened(fields, types);
    for (key, value) in values {
        let at = format!("{at}.{key}");
        match fields.get(key).or_else(|| fields.get(&format!("{key}?"))).or_else(|| fields.get("*")) {
            Some(shape) => compare(shape, types, value, &at, found),
            None => found.push(format!("{at} is not described")),
        }
    }
    let is_missing = |key: &&String| *key != "*" && !key.ends_with('?') && !values.contains_key(*key);
    found.extend(fields.keys().filter(is_missing).map(|key| format!("{at}.{key} is missing")));
}

/// With the keys of the type behind `"..."`.
fn flattened(fields: &Types, types: &Types) -> Types {
    let mut all = fields.clone();
    if let Some(name) = all.remove("...") {
        let named = name.as_str().and_then(|name| types.get(name)).and_then(Value::as_object);
        all.extend(flattened(named.unwrap_or_else(|| panic!("{name} is a type with keys")), types));
    }
    all
}

/// A schema of an OpenAPI document as a shape.
pub(crate) fn of_schema(schema: &Value) -> Value {
    let list = |key: &str| schema[key].as_array();
    if let Some(name) = schema["$ref"].as_str() {
        return json!(name.rsplit('/').next());
    }
    if let Some(choices) = list("oneOf") {
        let real: Vec<&Value> = choices.iter().filter(|choice| choice["type"] != "null").collect();
        let [one] = real.as_slice() else { panic!("{schema} is one thing or nothing") };
        return json!(format!("{}?", of_schema(one).as_str().expect("a type with a name")));
    }
    if let Some(parts) = list("allOf") {
        let mut fields = Map::new();
        for part in parts.iter().map(of_schema) {
            match part {
                Value::Object(more) => fields.extend(more),
                name => drop(fields.insert("...".to_owned(), name)),
            }
        }
        return Value::Object(fields);
    }
    if let Some(texts) = list("enum") {
        return json!({ "one of": texts });
    }
    let name =
        schema["type"].as_str().or_else(|| list("type")?.iter().find(|name| *name != "null")?.as_str());
    match name.unwrap_or_else(|| panic!("{schema} has a type")) {
        "array" => json!([of_schema(&schema["items"])]),
        "object" if schema["properties"].is_object() => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            Value::Object(fields.map(|(key, field)| (key.clone(), of_schema(field))).collect())
        }
        "object" if schema["additionalProperties"].is_object() => {
            json!({ "*": of_schema(&schema["additionalProperties"]) })
        }
        name => json!(format!("{name}{}", if schema["type"].is_array() { "?" } else { "" })),
    }
}
