//! The commands `append`, `build` and `push`, for whichever binary offers them.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use lexopt::{Arg, Parser, ValueExt as _};

use super::appender::{AppendRequest, Appender, to_stderr};
use super::cache::Cache;
use super::client::Client;
use super::credentials::Credentials;
use super::layout::Layout;
use super::platform::{Elf, Platform};
use super::recipe::{LayerRecipe, Recipe, Step};
use super::reference::Reference;
use super::shim_layer::Shims;

const APPEND_HELP: &str = "\
Add the shim to an image, over the registry API. Prints the new image's reference by digest.

Usage: append IMAGE --to REPOSITORY[:TAG] [OPTIONS]

  --to REPOSITORY[:TAG]    Where the new image goes
  --shim [ARCH=]FILE       A static shim; one for each architecture [default: this program, if it is static]
  --entrypoint JSON        Start this instead of the image's Entrypoint and Cmd, as in '[\"node\",\"s.js\"]'
  --platform OS/ARCH       Only these of an index; may be given several times
  --plain-http[=REGISTRY]  Plain HTTP to the target's registry, or to the one named; loopback needs no flag
  --cache DIR              What was made before [default: kwsk/append in the user's cache directory]
  --no-cache               Remember nothing
  --dry-run                Read everything, push nothing

Logins are those of docker and podman: $REGISTRY_AUTH_FILE, $DOCKER_CONFIG/config.json, ~/.docker/config.json and podman's
auth.json.
";

const BUILD_HELP: &str = "\
Make an image in a directory, as an OCI image layout. Prints its digest. The same input makes the same image.

Usage: build --out DIR [OPTIONS]

  --out DIR                 Where the layout goes; one that is there is replaced
  --from LAYOUT|IMAGE       The image below; none by default
  --platform OS/ARCH        What it runs on [default: this machine]
  --name NAME               How the layout names the image
  --entrypoint JSON, --cmd JSON, --env NAME=VALUE, --user USER[:GROUP], --workdir DIR, --label NAME=VALUE
  --plain-http=REGISTRY     Plain HTTP to the registry of --from

Layers, from the bottom up; what comes later wins:
  --add SOURCE:PATH[:MODE]  A file or directory of this machine
  --mkdir PATH[:MODE]       A directory
  --symlink PATH:TARGET     A symbolic link
  --debs DIR                The files of all Debian packages in a directory, without their scripts
  --slim                    No manuals, translations and the like in this layer; licences stay
  --layer                   What follows is another layer
  --shim [ARCH=]FILE        The shim as /kwsk/bin/shim, in a layer of its own on top
";

const PUSH_HELP: &str = "\
Push an image layout with all that belongs to it. Prints the image's reference by digest.

Usage: push LAYOUT REPOSITORY[:TAG] [--plain-http]
";

/// Runs `append` with the arguments that follow the command. Without `--shim`, `shim` is the one.
///
/// # Errors
/// One line that names what is wrong and what to do.
pub fn append(
    arguments: impl IntoIterator<Item = OsString>,
    shim: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let mut parser = Parser::from_args(arguments);
    let (mut image, mut to, mut command) = (None, None, None);
    let (mut given, mut platforms, mut plain, mut cache, mut dry_run) =
        (Shims::new(), Vec::new(), Vec::new(), Cache::usual(), false);
    let mut any = false;
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("to") => to = Some(reference(&mut parser)?),
            Arg::Long("shim") => {
                add_shim(&mut given, &parser.value()?.string()?)?;
                any = true;
            }
            Arg::Long("entrypoint") => command = Some(words("--entrypoint", &parser.value()?.string()?)?),
            Arg::Long("platform") => platforms.push(platform(&parser.value()?.string()?)?),
            Arg::Long("plain-http") => plain.push(optional(&mut parser)?),
            Arg::Long("cache") => cache = Some(Cache::new(parser.value()?.into())),
            Arg::Long("no-cache") => cache = None,
            Arg::Long("dry-run") => dry_run = true,
            Arg::Short('h') | Arg::Long("help") => return help(APPEND_HELP),
            Arg::Value(value) if image.is_none() => image = Some(value.string()?.parse::<Reference>()?),
            other => return Err(unexpected(other, "append")),
        }
    }
    let image = image.context("no image is given: append IMAGE --to REPOSITORY")?;
    let to = to.context("no target is given: append IMAGE --to REPOSITORY")?;
    if to.digest().is_some() {
        bail!(
            "--to {to} has a digest, which only comes of the image: give a repository, with a tag if one is wanted"
        );
    }
    if !any {
        let shim = shim.context("there is no static shim at hand; build one and give it with --shim FILE")?;
        given.add(shim, None)?;
    }
    let client = client(&plain, &to);
    let request = AppendRequest { image, to, command, platforms, dry_run };
    let appended = block_on(async { Ok(Appender::new(client, given, cache).append(&request).await?) })?;
    if appended.cached {
        to_stderr().say("was made before and is still there");
    }
    print(&appended.reference.to_string())
}

/// Runs `build`.
///
/// # Errors
/// One line that names what is wrong and what to do.
pub fn build(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<ExitCode> {
    let mut parser = Parser::from_args(arguments);
    let (mut recipe, mut layer, mut out, mut plain) =
        (Recipe::default(), LayerRecipe::default(), None, Vec::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("out") => out = Some(PathBuf::from(parser.value()?)),
            Arg::Long("from") => recipe.base = Some(parser.value()?.string()?),
            Arg::Long("platform") => recipe.platform = Some(platform(&parser.value()?.string()?)?),
            Arg::Long("name") => recipe.name = Some(parser.value()?.string()?),
            Arg::Long("entrypoint") => {
                recipe.entrypoint = Some(words("--entrypoint", &parser.value()?.string()?)?)
            }
            Arg::Long("cmd") => recipe.cmd = Some(words("--cmd", &parser.value()?.string()?)?),
            Arg::Long("env") => recipe.env.push(pair("--env", &parser.value()?.string()?)?),
            Arg::Long("label") => recipe.labels.push(pair("--label", &parser.value()?.string()?)?),
            Arg::Long("user") => recipe.user = Some(parser.value()?.string()?),
            Arg::Long("workdir") => recipe.workdir = Some(parser.value()?.string()?),
            Arg::Long("plain-http") => plain.push(optional(&mut parser)?),
            Arg::Long("add") => layer.steps.push(add(&parser.value()?.string()?)?),
            Arg::Long("mkdir") => layer.steps.push(mkdir(&parser.value()?.string()?)?),
            Arg::Long("symlink") => layer.steps.push(symlink(&parser.value()?.string()?)?),
            Arg::Long("debs") => layer.steps.push(Step::Debs(parser.value()?.into())),
            Arg::Long("slim") => layer.slim = true,
            Arg::Long("layer") => recipe.layers.push(std::mem::take(&mut layer)),
            Arg::Long("shim") => add_shim(&mut recipe.shims, &parser.value()?.string()?)?,
            Arg::Short('h') | Arg::Long("help") => return help(BUILD_HELP),
            other => return Err(unexpected(other, "build")),
        }
    }
    recipe.layers.push(layer);
    recipe.layers.retain(|layer| !layer.steps.is_empty());
    let out = out.context("no directory is given: build --out DIR")?;
    let mut client = Client::new(Credentials::usual(), to_stderr());
    for registry in plain.into_iter().flatten() {
        client = client.with_plain_http(registry);
    }
    let digest = block_on(async { Ok(recipe.build(&client, &out).await?) })?;
    print(digest.as_str())
}

/// Runs `push`.
///
/// # Errors
/// One line that names what is wrong and what to do.
pub fn push(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<ExitCode> {
    let mut parser = Parser::from_args(arguments);
    let (mut layout, mut to, mut plain) = (None, None, Vec::new());
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("plain-http") => plain.push(optional(&mut parser)?),
            Arg::Short('h') | Arg::Long("help") => return help(PUSH_HELP),
            Arg::Value(value) if layout.is_none() => layout = Some(PathBuf::from(value)),
            Arg::Value(value) if to.is_none() => to = Some(value.string()?.parse::<Reference>()?),
            other => return Err(unexpected(other, "push")),
        }
    }
    let layout = Layout::open(&layout.context("no layout is given: push LAYOUT REPOSITORY")?)?;
    let to = to.context("no target is given: push LAYOUT REPOSITORY")?;
    let client = client(&plain, &to);
    let pushed = block_on(async { Ok(layout.push(&client, &to).await?) })?;
    print(&pushed.to_string())
}

// === running ===

fn client(plain: &[Option<String>], to: &Reference) -> Client {
    let client = Client::new(Credentials::usual(), to_stderr());
    plain.iter().fold(client, |client, registry| {
        client.with_plain_http(registry.clone().unwrap_or_else(|| to.registry().to_owned()))
    })
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("the system refuses threads or sockets")?.block_on(work)
}

fn print(line: &str) -> anyhow::Result<ExitCode> {
    writeln!(std::io::stdout(), "{line}").context("cannot write to stdout")?;
    Ok(ExitCode::SUCCESS)
}

fn help(text: &str) -> anyhow::Result<ExitCode> {
    write!(std::io::stdout(), "{text}").context("cannot write to stdout")?;
    Ok(ExitCode::SUCCESS)
}

fn unexpected(arg: Arg<'_>, command: &str) -> anyhow::Error {
    anyhow::anyhow!("{}; `{command} --help` lists what there is", arg.unexpected())
}

// === values ===

fn reference(parser: &mut Parser) -> anyhow::Result<Reference> {
    Ok(parser.value()?.string()?.parse()?)
}

fn optional(parser: &mut Parser) -> anyhow::Result<Option<String>> {
    Ok(parser.optional_value().map(lexopt::ValueExt::string).transpose()?)
}

/// `FILE` or `ARCHITECTURE=FILE`.
fn add_shim(shims: &mut Shims, value: &str) -> anyhow::Result<()> {
    let (architecture, file) = match value.split_once('=') {
        Some((architecture, file)) if !architecture.contains('/') || architecture.starts_with("linux/") => {
            (Some(architecture.trim_start_matches("linux/")), file)
        }
        _ => (None, value),
    };
    Ok(shims.add(Path::new(file), architecture)?)
}

fn words(flag: &str, value: &str) -> anyhow::Result<Vec<String>> {
    let words: Vec<String> = serde_json::from_str(value).ok().with_context(|| {
        format!("{flag} {value} is not a JSON array of strings; write it like '[\"program\",\"argument\"]'")
    })?;
    if words.first().is_none_or(String::is_empty) {
        bail!("{flag} {value} names no program; write it like '[\"program\",\"argument\"]'");
    }
    Ok(words)
}

fn platform(value: &str) -> anyhow::Result<Platform> {
    Platform::parse(value)
        .with_context(|| format!("--platform {value} is not a platform; write it like linux/arm64"))
}

fn pair(flag: &str, value: &str) -> anyhow::Result<(String, String)> {
    let pair = value.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = pair.with_context(|| format!("{flag} {value} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn mode(flag: &str, text: &str) -> anyhow::Result<u32> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.with_context(|| format!("{flag}: '{text}' is not a mode; write it like 0755"))
}

fn add(value: &str) -> anyhow::Result<Step> {
    let parts: Vec<&str> = value.split(':').collect();
    let (from, to, bits) = match parts.as_slice() {
        [from, to] => (from, to, None),
        [from, to, bits] => (from, to, Some(mode("--add", bits)?)),
        _ => bail!("--add {value} is not SOURCE:PATH[:MODE]"),
    };
    Ok(Step::Add { from: PathBuf::from(from), to: (*to).to_owned(), mode: bits })
}

fn mkdir(value: &str) -> anyhow::Result<Step> {
    let (path, bits) = value.split_once(':').unwrap_or((value, "0755"));
    Ok(Step::Directory { path: path.to_owned(), mode: mode("--mkdir", bits)? })
}

fn symlink(value: &str) -> anyhow::Result<Step> {
    let (path, target) =
        value.split_once(':').with_context(|| format!("--symlink {value} is not PATH:TARGET"))?;
    Ok(Step::Symlink { path: path.to_owned(), target: target.to_owned() })
}

/// This very program, if it would run in any image.
#[must_use]
pub fn this_program() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let elf = Elf::read(&std::fs::read(&program).ok()?).ok()?;
    elf.is_static.then_some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(run: impl Fn(Vec<OsString>) -> anyhow::Result<ExitCode>, line: &[&str]) -> String {
        let error = run(line.iter().map(OsString::from).collect()).unwrap_err();
        format!("{error:#}")
    }

    #[test]
    fn bad_command_lines_get_one_line() {
        let append = |arguments| append(arguments, None);
        for (line, part) in [
            (&[] as &[&str], "no image is given"),
            (&["debian"], "no target is given"),
            (&["debian", "--to", "UPPER//"], "not an image reference"),
            (&["debian", "--to", &format!("r.example/x@sha256:{}", "0".repeat(64))], "has a digest"),
            (&["debian", "--to", "r.example/x"], "--shim FILE"),
            (&["debian", "--to", "r.example/x", "--shim", "/no/such"], "cannot be read"),
            (&["debian", "--to", "r.example/x", "--shim", "/etc/passwd"], "not a Linux program"),
            (&["debian", "--entrypoint", "node"], "JSON array"),
            (&["debian", "--entrypoint", "[]"], "names no program"),
            (&["debian", "--platform", "a b"], "linux/arm64"),
            (&["debian", "another"], "--help"),
            (&["--no-such-flag"], "--help"),
        ] {
            let error = refused(append, line);
            assert!(error.contains(part) && !error.contains('\n'), "{line:?}: {error}");
        }
        for (line, part) in [
            (&[] as &[&str], "no directory is given"),
            (&["--add", "x"], "SOURCE:PATH"),
            (&["--add", "x:y:rwx"], "not a mode"),
            (&["--mkdir", "x:99"], "not a mode"),
            (&["--symlink", "x"], "PATH:TARGET"),
            (&["--env", "=x"], "NAME=VALUE"),
            (&["stray"], "--help"),
        ] {
            let error = refused(build, line);
            assert!(error.contains(part) && !error.contains('\n'), "{line:?}: {error}");
        }
        assert!(refused(push, &[]).contains("no layout is given"));
        assert!(refused(push, &["/etc", "r.example/x"]).contains("oci-layout"));
    }
}
