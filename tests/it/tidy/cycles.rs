//! Rule against import cycles between the files of a crate, so that the files can be read in order.
//!
//! An import is a `use` of `crate::`, `super::`, `self::` or a child module at the top level of a file, outside of
//! tests. An import of a re-exported name counts as an import of the file that defines the name. A re-export is
//! not an import.

use super::tree::{Finding, Rule, Tree, assert_clean, assert_finds, finding};
use std::collections::{BTreeMap, BTreeSet};

/// The crates that the rule checks.
const CRATES: [&str; 4] = ["basic-paxos", "checker", "node", "sim"];

/// A module path below the root of its crate, such as `["search", "window"]`.
type Module = Vec<String>;

/// The modules of one crate, each with its file and its text.
type Modules<'a> = BTreeMap<Module, (&'a str, &'a str)>;

/// Finds import cycles. Reports at most one for each crate.
fn import_cycles(tree: &Tree) -> Vec<Finding> {
    CRATES.iter().filter_map(|name| import_cycle(&modules(tree, name))).collect()
}

/// Returns the modules of a crate's library.
fn modules<'a>(tree: &'a Tree, name: &str) -> Modules<'a> {
    let folder = format!("crates/{name}/src/");
    let module = |path: &str| -> Option<Module> {
        let path = path.strip_prefix(&folder)?.strip_suffix(".rs")?;
        let path = path.strip_suffix("/mod").unwrap_or(path);
        match path {
            "main" => None,
            "lib" => Some(Module::new()),
            path => Some(path.split('/').map(str::to_owned).collect()),
        }
    };
    tree.sources().filter_map(|(path, text)| Some((module(path)?, (path, text)))).collect()
}

/// Returns a finding with the files of an import cycle, if there is one.
fn import_cycle(modules: &Modules<'_>) -> Option<Finding> {
    let imports: BTreeMap<&Module, BTreeSet<Module>> =
        modules.keys().map(|module| (module, imports(modules, module))).collect();
    let mut done = BTreeSet::new();
    let found =
        modules.keys().find_map(|start| search(&imports, start, &mut Vec::new(), &mut done))?;
    let files: Vec<_> = found.iter().map(|module| modules[module].0).collect();
    Some(finding(files[0], format!("import cycle: {}", files.join(" -> "))))
}

/// Searches depth first for a path that returns to a module on it. Returns the cycle, with the first module
/// also at the end.
fn search(
    imports: &BTreeMap<&Module, BTreeSet<Module>>,
    module: &Module,
    path: &mut Vec<Module>,
    done: &mut BTreeSet<Module>,
) -> Option<Vec<Module>> {
    if let Some(at) = path.iter().position(|earlier| earlier == module) {
        return Some(path[at..].iter().chain([module]).cloned().collect());
    }
    if done.contains(module) {
        return None;
    }
    path.push(module.clone());
    let found = imports[module].iter().find_map(|next| search(imports, next, path, done));
    path.pop();
    done.insert(module.clone());
    found
}

/// Returns the modules that a module imports.
fn imports(modules: &Modules<'_>, module: &Module) -> BTreeSet<Module> {
    let paths = uses(modules[module].1).into_iter().filter(|(is_public, _)| !is_public);
    let targets = paths.filter_map(|(_, path)| resolve(modules, module, &path, 0));
    targets.filter(|target| target != module).collect()
}

/// Returns the module that defines the name at the end of a path, or `None` if it is not in this crate.
fn resolve(modules: &Modules<'_>, from: &Module, path: &[String], depth: usize) -> Option<Module> {
    let is_child =
        |name: &String| modules.contains_key(&[&from[..], std::slice::from_ref(name)].concat());
    let (mut module, mut rest) = match path.first()?.as_str() {
        "crate" => (Module::new(), &path[1..]),
        "self" => (from.clone(), &path[1..]),
        "super" => (from.clone(), path),
        _ if is_child(&path[0]) => (from.clone(), path),
        _ => return None,
    };
    while rest.first().is_some_and(|name| name == "super") {
        module.pop()?;
        rest = &rest[1..];
    }
    while let Some(name) = rest.first() {
        let inner = [&module[..], std::slice::from_ref(name)].concat();
        if !modules.contains_key(&inner) {
            break;
        }
        (module, rest) = (inner, &rest[1..]);
    }
    // The name may be a re-export. The depth is limited, because re-exports may refer to each other.
    let exported = rest.first().filter(|_| depth < 8).and_then(|name| {
        let text = modules.get(&module)?.1;
        let exports = uses(text).into_iter().filter(|(is_public, _)| *is_public);
        let same_name = |(_, path): &(bool, Vec<String>)| path.last() == Some(name);
        exports.filter(same_name).find_map(|(_, path)| resolve(modules, &module, &path, depth + 1))
    });
    exported.or_else(|| modules.contains_key(&module).then_some(module))
}

/// Returns the paths of all `use` statements at the top level of a file, each with true if it is a re-export.
fn uses(text: &str) -> Vec<(bool, Vec<String>)> {
    let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let mut paths = Vec::new();
    let mut earlier = "";
    for (at, line) in lines(text) {
        let keyword = line
            .find("use ")
            .filter(|at| matches!(line[..*at].trim_end(), "" | "pub"))
            .or_else(|| line.find(") use ").filter(|_| line.starts_with("pub(")).map(|at| at + 2));
        if let Some(keyword) = keyword.filter(|_| earlier != "#[cfg(test)]") {
            let statement = text[at + keyword + 4..].split(';').next().unwrap_or_default();
            let mut found = Vec::new();
            expand(&mut Vec::new(), statement, &mut found);
            paths.extend(found.into_iter().map(|path| (keyword > 0, path)));
        }
        earlier = line;
    }
    paths
}

/// Returns the lines of a text with their positions.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let start = text.as_ptr() as usize;
    text.lines().map(move |line| (line.as_ptr() as usize - start, line))
}

/// Expands the braces of a `use` statement to single paths.
fn expand(prefix: &mut Vec<String>, tree: &str, paths: &mut Vec<Vec<String>>) {
    let length = prefix.len();
    let (head, group) = tree.split_once('{').unwrap_or((tree, ""));
    let head = head.split(" as ").next().unwrap_or_default();
    prefix.extend(head.split("::").map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned));
    if group.is_empty() {
        // `self` in a group is the module of the prefix.
        let is_self = prefix.len() > 1 && prefix.last().is_some_and(|name| name == "self");
        paths.push(prefix[..prefix.len() - usize::from(is_self)].to_vec());
    } else {
        let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
        let (mut depth, mut start) = (0_usize, 0);
        for (at, letter) in group.char_indices().chain([(group.len(), ',')]) {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    if !group[start..at].trim().is_empty() {
                        expand(prefix, &group[start..at], paths);
                    }
                    start = at + 1;
                }
                _ => {}
            }
        }
    }
    prefix.truncate(length);
}

#[test]
fn imports_have_no_cycles() {
    assert_clean(&[import_cycles as Rule]);
}

/// Returns a tree of the files `a`, `b` and `b/c` of the crate `checker`.
fn planted(a: &str, b: &str, c: &str) -> Tree {
    let file = |name: &str| format!("crates/checker/src/{name}.rs");
    let root = "mod a;\nmod b;\npub use b::B;\n";
    let tree = Tree::planted(&file("lib"), root).with(&file("a"), a);
    tree.with(&file("b/mod"), b).with(&file("b/c"), c)
}

#[test]
fn import_cycle_is_found() {
    let cycle = "a.rs -> crates/checker/src/b/mod.rs -> crates/checker/src/b/c.rs -> crates";
    let c = "use std::fmt;\nuse crate::{\n    a::{A, Other as Name},\n    other::X,\n};\n";
    assert_finds(import_cycles, &planted("use crate::b::B;\n", "mod c;\nuse c::C;\n", c), cycle);
    let c = "use super::super::a::A;\n";
    assert_finds(
        import_cycles,
        &planted("use super::b;\n", "pub(crate) mod c;\nuse self::c::C;\n", c),
        cycle,
    );
    let hidden = planted("use crate::B;\n", "use crate::a::A;\n", "");
    assert_finds(import_cycles, &hidden, "b/mod.rs");
    let exported =
        planted("use crate::b::C;\n", "mod c;\npub(crate) use c::C;\n", "use crate::a::A;\n");
    assert_finds(
        import_cycles,
        &exported,
        "a.rs -> crates/checker/src/b/c.rs -> crates/checker/src/a.rs",
    );
}

#[test]
fn imports_without_a_cycle_are_not_reported() {
    let test = "use crate::b::B;\n\n#[cfg(test)]\nuse crate::b::c::D;\n";
    assert_eq!(import_cycles(&planted(test, "mod c;\nuse c::C;\n", "use std::fmt;\n")), []);
    let tests =
        "struct A;\n\n#[cfg(test)]\nmod tests {\n    use super::*;\n    use crate::b::B;\n}\n";
    assert_eq!(import_cycles(&planted(tests, "use crate::a::A;\n", "use crate::a::A;\n")), []);
    let facade =
        planted("struct A;\n", "mod c;\npub use c::C;\n", "use super::Other;\nuse super::C;\n");
    assert_eq!(import_cycles(&facade), [], "a re-export is not an import");
}
