//! A page quotes its program from `[quote: NAME]` to `[end]`, word for word and all of it, so that what is copied from the
//! page is what the tests run.

use std::collections::BTreeMap;
use std::path::Path;

const PAGES: [(&str, &str); 5] = [
    ("rust", "client.rs"),
    ("go", "client.go"),
    ("python", "client.py"),
    ("java", "src/main/java/org/example/timeline/Client.java"),
    ("typescript", "src/client.ts"),
];

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(super::ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What is between the marks, by name, without the indentation that all of it has.
fn marked(source: &str) -> BTreeMap<String, String> {
    let mut quotes = BTreeMap::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let Some((_, name)) = line.split_once("[quote: ") else { continue };
        let name = name.trim_end_matches(']').to_owned();
        let inside: Vec<&str> = lines.by_ref().take_while(|line| !line.trim_end().ends_with("[end]")).collect();
        assert!(quotes.insert(name.clone(), unindented(&inside)).is_none(), "`{name}` is there twice");
    }
    quotes
}

fn unindented(lines: &[&str]) -> String {
    let indents = lines.iter().filter(|line| !line.trim().is_empty()).map(|line| line.len() - line.trim_start().len());
    let indent = indents.min().unwrap_or(0);
    let lines: Vec<&str> = lines.iter().map(|line| line.get(indent..).unwrap_or_default()).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

/// The code blocks of a page that follow a line `<!-- quote: NAME -->`.
fn quoted(page: &str) -> BTreeMap<String, String> {
    let quotes = page.split("<!-- quote: ").skip(1).map(|rest| {
        let (name, rest) = rest.split_once(" -->\n```").unwrap_or_else(|| panic!("no code follows: {rest:.60}"));
        let (_, rest) = rest.split_once('\n').unwrap();
        let (code, _) = rest.split_once("\n```").unwrap_or_else(|| panic!("`{name}` has no end"));
        (name.to_owned(), code.to_owned())
    });
    quotes.collect()
}

#[test]
fn pages_quote_what_runs() {
    for (language, source) in PAGES {
        let (page, source) =
            (read(&format!("clients/{language}/README.md")), read(&format!("clients/{language}/{source}")));
        let (quoted, marked) = (quoted(&page), marked(&source));
        for name in ["verdict", "channel", "check", "batch", "countries", "watch"] {
            assert!(marked.contains_key(name), "clients/{language} marks no `{name}`");
        }
        let names = |quotes: &BTreeMap<String, String>| quotes.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&quoted), names(&marked), "clients/{language}/README.md");
        for (name, code) in marked {
            assert!(
                quoted[&name] == code,
                "clients/{language}/README.md quotes `{name}` otherwise than it is:\n{code}"
            );
        }
    }
}

/// The versions that a page tells to install are those that the tests run with.
#[test]
fn versions_are_those_that_run() {
    let installed = read("tests/python/requirements.txt");
    for wanted in read("clients/python/requirements.txt").lines() {
        assert!(
            installed.lines().any(|line| line == wanted),
            "`{wanted}` is not what tests/python/requirements.txt has"
        );
    }
    let ours: toml::Table = read("Cargo.toml").parse().unwrap();
    let page = read("clients/rust/README.md");
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let theirs: toml::Table = rest.split_once("```").unwrap().0.parse().unwrap();
    let version = |of: &toml::Value| of.get("version").unwrap_or(of).as_str().unwrap().to_owned();
    for section in ["dependencies", "build-dependencies"] {
        for (name, wanted) in theirs[section].as_table().unwrap() {
            let have = ours[section].get(name).or_else(|| ours["dev-dependencies"].get(name));
            let have = have.unwrap_or_else(|| panic!("`{name}` is none of the {section}"));
            assert_eq!(version(wanted), version(have), "{name}");
        }
    }
}
