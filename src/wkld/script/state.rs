//! A Lua state as a script finds it: the `wrk` table, what it may require, and the thread's handle.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mlua::{Lua, MetaMethod, Table, UserData, UserDataFields, UserDataMethods, Value, Variadic, WeakLua};

use super::{Script, modules};
use crate::wkld::client::clock;
use crate::wkld::url::Url;

/// How deep a table may be nested that goes from one state to another.
const DEPTH: usize = 64;

/// A state in which the script has been loaded.
///
/// # Errors
/// The script's own.
pub(super) fn fresh(script: &Script, url: &Url) -> mlua::Result<Lua> {
    let lua = Lua::new();
    let globals = lua.globals();
    let wrk = lua.create_table()?;
    wrk.set("scheme", if url.https { "https" } else { "http" })?;
    wrk.set("host", url.host.as_str())?;
    let plain = if url.https { 443 } else { 80 };
    if url.port != plain {
        wrk.set("port", url.port.to_string())?;
    }
    wrk.set("path", url.path.as_str())?;
    wrk.set("lookup", lua.create_function(lookup)?)?;
    wrk.set("connect", lua.create_function(connect)?)?;
    wrk.set("time_us", lua.create_function(|_, ()| Ok((clock() / 1000) as f64))?)?;
    globals.set("wrk", wrk)?;
    globals.set("debug", debug(&lua)?)?;
    environment(&lua, script)?;
    modules::install(&lua)?;
    lua.load(include_str!("prelude.lua")).set_name("=wrk").exec()?;
    lua.load(script.text.as_str()).set_name(format!("@{}", script.path)).exec()?;
    Ok(lua)
}

/// `os.getenv` with the script's variables in front, and modules looked for beside the script.
fn environment(lua: &Lua, script: &Script) -> mlua::Result<()> {
    let os: Table = lua.globals().get("os")?;
    let env = script.env.clone();
    let getenv = move |_: &Lua, name: String| Ok(env.get(&name).cloned().or_else(|| std::env::var(&name).ok()));
    os.set("getenv", lua.create_function(getenv)?)?;
    // `os.exit` would end the whole process and lose what was measured.
    let exit = |_: &Lua, _: Variadic<Value>| -> mlua::Result<()> {
        Err(mlua::Error::runtime("os.exit is not available: use wrk.thread:stop()"))
    };
    os.set("exit", lua.create_function(exit)?)?;
    let package: Table = lua.globals().get("package")?;
    let beside = Path::new(&script.path).parent().unwrap_or(Path::new(".")).display().to_string();
    let path: String = package.get("path")?;
    package.set("path", format!("{beside}/?.lua;./?.lua;{path}"))
}

/// The part of `debug` that scripts use: where they are, and a traceback.
fn debug(lua: &Lua) -> mlua::Result<Table> {
    let debug = lua.create_table()?;
    debug.set(
        "getinfo",
        lua.create_function(|lua, (level, _what): (Value, Option<String>)| {
            let level = level.as_integer().unwrap_or(1).max(0) as usize;
            let info = lua.create_table()?;
            let found = lua.inspect_stack(level, |frame| {
                let source = frame.source();
                let text = |text: Option<std::borrow::Cow<'_, str>>| text.map(std::borrow::Cow::into_owned);
                (text(source.source), text(source.short_src), source.line_defined, frame.current_line())
            });
            let Some((source, short, defined, current)) = found else { return Ok(Value::Nil) };
            info.set("source", source)?;
            info.set("short_src", short)?;
            info.set("linedefined", defined)?;
            info.set("currentline", current)?;
            Ok(Value::Table(info))
        })?,
    )?;
    debug.set("traceback", lua.create_function(|lua, text: Option<String>| lua.traceback(text.as_deref(), 1))?)?;
    Ok(debug)
}

/// Writes out what the script printed, so that it comes before what is printed next.
pub(super) fn flush(lua: &Lua) {
    // A script may have replaced `io`; then there is nothing to write out.
    lua.load("io.stdout:flush()").exec().ok();
}

/// An address that `wrk.lookup` found.
#[derive(Clone, Copy)]
struct Address(SocketAddr);

impl UserData for Address {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| Ok(this.0.to_string()));
    }
}

/// `wrk.lookup(host, service)`: all addresses.
fn lookup(lua: &Lua, (host, service): (String, Value)) -> mlua::Result<Table> {
    let service = lua.coerce_string(service)?.map(|text| text.to_string_lossy()).unwrap_or_default();
    let port = match service.as_str() {
        "http" | "" => 80,
        "https" => 443,
        digits => digits.parse().map_err(|_| mlua::Error::runtime(format!("unknown service `{digits}`")))?,
    };
    let found = (host.as_str(), port)
        .to_socket_addrs()
        .map_err(|error| mlua::Error::runtime(format!("cannot find the address of `{host}`: {error}")))?;
    lua.create_sequence_from(found.map(Address))
}

/// `wrk.connect(addr)`: whether it lets us in.
fn connect(_: &Lua, address: mlua::UserDataRef<Address>) -> mlua::Result<bool> {
    Ok(TcpStream::connect_timeout(&address.0, Duration::from_secs(2)).is_ok())
}

/// A thread as `setup` and `wrk.thread` see it.
#[derive(Clone)]
pub(super) struct ThreadHandle {
    lua: WeakLua,
    address: Arc<Mutex<Option<SocketAddr>>>,
    stop: Arc<AtomicBool>,
}

impl ThreadHandle {
    pub(super) fn new(lua: &Lua, address: &Arc<Mutex<Option<SocketAddr>>>, stop: &Arc<AtomicBool>) -> Self {
        ThreadHandle { lua: lua.weak(), address: Arc::clone(address), stop: Arc::clone(stop) }
    }

    fn state(&self) -> mlua::Result<Lua> {
        self.lua.try_upgrade().ok_or_else(|| mlua::Error::runtime("the thread has ended"))
    }
}

impl UserData for ThreadHandle {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_field_method_get("addr", |_, this| {
            Ok(this.address.lock().ok().and_then(|address| *address).map(Address))
        });
        fields.add_field_method_set("addr", |_, this, address: mlua::UserDataRef<Address>| {
            if let Ok(mut slot) = this.address.lock() {
                *slot = Some(address.0);
            }
            Ok(())
        });
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("get", |lua, this, name: String| {
            let state = this.state()?;
            let value = state.globals().get::<Value>(name)?;
            transfer(&value, lua, DEPTH)
        });
        methods.add_method("set", |_, this, (name, value): (String, Value)| {
            let state = this.state()?;
            let value = transfer(&value, &state, DEPTH)?;
            state.globals().set(name, value)
        });
        methods.add_method("stop", |_, this, ()| {
            this.stop.store(true, Ordering::Relaxed);
            Ok(())
        });
    }
}

/// A copy of `value` in the state `to`.
fn transfer(value: &Value, to: &Lua, depth: usize) -> mlua::Result<Value> {
    match value {
        Value::Nil => Ok(Value::Nil),
        Value::Boolean(b) => Ok(Value::Boolean(*b)),
        Value::Integer(i) => Ok(Value::Integer(*i)),
        Value::Number(n) => Ok(Value::Number(*n)),
        Value::String(text) => Ok(Value::String(to.create_string(text.as_bytes())?)),
        Value::Table(table) if depth > 0 => {
            let copy = to.create_table()?;
            for pair in table.pairs::<Value, Value>() {
                let (key, value) = pair?;
                copy.set(transfer(&key, to, depth - 1)?, transfer(&value, to, depth - 1)?)?;
            }
            Ok(Value::Table(copy))
        }
        other => Err(mlua::Error::runtime(format!("cannot hand a {} to another thread", other.type_name()))),
    }
}
