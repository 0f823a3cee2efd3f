//! What scripts may require besides Lua's own libraries: `socket`, `socket.http`, `JSON`, `pl.*`, `ltn12`.

use std::time::Duration;

use mlua::{Lua, Table, Value};
use serde_json::{Map, Number};

/// How long a blocking request of a script may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How deep JSON may be nested.
const DEPTH: usize = 128;

/// Makes the modules known to `require`.
pub(super) fn install(lua: &Lua) -> mlua::Result<()> {
    let globals = lua.globals();
    let socket = lua.create_table()?;
    socket.set("gettime", lua.create_function(|_, ()| Ok(jiff::Timestamp::now().as_microsecond() as f64 / 1e6))?)?;
    let sleep = |_: &Lua, seconds: f64| {
        std::thread::sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        Ok(())
    };
    socket.set("sleep", lua.create_function(sleep)?)?;
    globals.set("socket_native", socket)?;
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT)).build().into();
    let request = move |lua: &Lua, (method, url, headers, body): (String, String, Table, Option<mlua::LuaString>)| {
        request(lua, &agent, &method, &url, &headers, body.as_ref())
    };
    globals.set("http_native", lua.create_function(request)?)?;
    globals.set("json_decode", lua.create_function(decode)?)?;
    globals.set("json_encode", lua.create_function(encode)?)?;
    // The module file keeps the natives as its own locals; scripts do not see them.
    lua.load(concat!(
        "local socket_native, http_native, json_decode, json_encode = ...\n",
        include_str!("modules.lua")
    ))
    .set_name("=modules")
    .call::<()>((
        globals.get::<Value>("socket_native")?,
        globals.get::<Value>("http_native")?,
        globals.get::<Value>("json_decode")?,
        globals.get::<Value>("json_encode")?,
    ))?;
    for name in ["socket_native", "http_native", "json_decode", "json_encode"] {
        globals.set(name, Value::Nil)?;
    }
    Ok(())
}

/// A blocking request: status, headers, body, status line; or nil and the reason, as LuaSocket gives them.
fn request(
    lua: &Lua,
    agent: &ureq::Agent,
    method: &str,
    url: &str,
    headers: &Table,
    body: Option<&mlua::LuaString>,
) -> mlua::Result<(Value, Value, Value, Value)> {
    let failed = |why: String| -> mlua::Result<(Value, Value, Value, Value)> {
        Ok((Value::Nil, Value::String(lua.create_string(why)?), Value::Nil, Value::Nil))
    };
    let mut builder = ureq::http::Request::builder().method(method).uri(url);
    for pair in headers.pairs::<String, Value>() {
        let (name, value) = pair?;
        // The length is known better than a script may say.
        if !name.eq_ignore_ascii_case("content-length") {
            let value = lua.coerce_string(value)?.map(|text| text.to_string_lossy()).unwrap_or_default();
            builder = builder.header(name, value);
        }
    }
    let sent = body.map(|body| body.as_bytes().to_vec()).unwrap_or_default();
    let answer = match builder.body(sent) {
        Ok(request) => agent.run(request),
        Err(error) => return failed(error.to_string()),
    };
    let mut answer = match answer {
        Ok(answer) => answer,
        Err(error) => return failed(error.to_string()),
    };
    let text = match answer.body_mut().read_to_vec() {
        Ok(text) => text,
        Err(error) => return failed(error.to_string()),
    };
    let fields = lua.create_table()?;
    for (name, value) in answer.headers() {
        fields.set(name.as_str(), lua.create_string(value.as_bytes())?)?;
    }
    let status = answer.status();
    let line = format!("HTTP/1.1 {} {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
    Ok((
        Value::Integer(status.as_u16().into()),
        Value::Table(fields),
        Value::String(lua.create_string(text)?),
        Value::String(lua.create_string(line)?),
    ))
}

/// JSON text to a Lua value; null becomes nil.
fn decode(lua: &Lua, text: mlua::LuaString) -> mlua::Result<Value> {
    let value: serde_json::Value =
        serde_json::from_slice(&text.as_bytes()).map_err(|error| mlua::Error::runtime(format!("not JSON: {error}")))?;
    to_lua(lua, &value, DEPTH)
}

fn to_lua(lua: &Lua, value: &serde_json::Value, depth: usize) -> mlua::Result<Value> {
    if depth == 0 {
        return Err(mlua::Error::runtime("JSON is nested too deeply"));
    }
    Ok(match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(b) => Value::Boolean(*b),
        serde_json::Value::Number(n) => Value::Number(n.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Value::String(lua.create_string(text)?),
        serde_json::Value::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (index, item) in items.iter().enumerate() {
                table.set(index + 1, to_lua(lua, item, depth - 1)?)?;
            }
            Value::Table(table)
        }
        serde_json::Value::Object(map) => {
            let table = lua.create_table_with_capacity(0, map.len())?;
            for (key, item) in map {
                table.set(key.as_str(), to_lua(lua, item, depth - 1)?)?;
            }
            Value::Table(table)
        }
    })
}

/// A Lua value to JSON text; a table with a value at 1 is an array, an empty one too.
fn encode(_: &Lua, (value, pretty): (Value, bool)) -> mlua::Result<String> {
    let value = from_lua(&value, DEPTH)?;
    let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
    text.map_err(mlua::Error::external)
}

fn from_lua(value: &Value, depth: usize) -> mlua::Result<serde_json::Value> {
    if depth == 0 {
        return Err(mlua::Error::runtime("a table is nested too deeply for JSON"));
    }
    Ok(match value {
        Value::Nil => serde_json::Value::Null,
        Value::Boolean(b) => (*b).into(),
        Value::Integer(i) => (*i).into(),
        Value::Number(n) if n.fract() == 0.0 && n.abs() < 9e15 => (*n as i64).into(),
        Value::Number(n) => Number::from_f64(*n).map_or(serde_json::Value::Null, serde_json::Value::Number),
        Value::String(text) => text.to_string_lossy().into(),
        Value::Table(table) if table.raw_len() > 0 || table.pairs::<Value, Value>().next().is_none() => {
            let items: mlua::Result<Vec<_>> =
                table.sequence_values::<Value>().map(|v| from_lua(&v?, depth - 1)).collect();
            serde_json::Value::Array(items?)
        }
        Value::Table(table) => {
            let mut map = Map::new();
            for pair in table.pairs::<mlua::LuaString, Value>() {
                let (key, value) = pair?;
                map.insert(key.to_string_lossy(), from_lua(&value, depth - 1)?);
            }
            serde_json::Value::Object(map)
        }
        other => return Err(mlua::Error::runtime(format!("a {} has no JSON form", other.type_name()))),
    })
}
