//! Which file of a crate names which: `use` declarations, and paths in code, resolved through
//! re-exports to the file that has the item. Tests are left out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;

/// A module of a crate, as its segments below the crate's root.
pub(super) type Module = Vec<String>;

/// One file of a crate.
struct Source {
    file: String,
    children: BTreeSet<String>,
    /// Names that `use` brings in, and the paths behind them.
    names: HashMap<String, Module>,
    /// Of these, the ones that others see here.
    exported: BTreeSet<String>,
    /// All paths that the file names, relative ones as they are written.
    paths: BTreeSet<Module>,
}

/// The files of one crate.
pub(super) struct Sources {
    modules: BTreeMap<Module, Source>,
}

impl Sources {
    /// Reads the crate whose source folder this is.
    pub(super) fn read(folder: &Path) -> Self {
        let mut files = Vec::new();
        list(folder, &mut files);
        let mut modules = BTreeMap::new();
        for path in files {
            let relative = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
            let module: Module =
                relative.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
            let module = if module == ["lib"] { Vec::new() } else { module };
            let is_test = module.iter().any(|name| name == "tests" || name == "main");
            if !is_test {
                modules.insert(module, Source::read(&path, relative));
            }
        }
        let known: Vec<Module> = modules.keys().cloned().collect();
        for module in known.iter().filter(|module| !module.is_empty()) {
            let parent = &module[..module.len() - 1];
            if let Some(parent) = modules.get_mut(parent) {
                parent.children.insert(module[module.len() - 1].clone());
            }
        }
        Self { modules }
    }

    /// From each file to the files that it names.
    pub(super) fn arrows(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut arrows = BTreeMap::new();
        for (module, source) in &self.modules {
            let to: BTreeSet<&str> = source
                .paths
                .iter()
                .filter_map(|path| self.owner(module, path, 0))
                .map(|owner| self.modules[&owner].file.as_str())
                .filter(|file| *file != source.file)
                .collect();
            arrows.insert(source.file.as_str(), to);
        }
        arrows
    }

    /// The module whose file has the item that `path` names when it stands in `module`.
    fn owner(&self, module: &Module, path: &[String], depth: usize) -> Option<Module> {
        assert!(depth < 32, "{path:?} in {module:?} leads in a circle");
        let source = &self.modules[module];
        let (mut at, mut rest) = match path[0].as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (module.clone(), &path[1..]),
            "super" => {
                let ups = path.iter().take_while(|name| *name == "super").count();
                (module[..module.len().checked_sub(ups)?].to_vec(), &path[ups..])
            }
            first if source.children.contains(first) => (module.clone(), path),
            first => {
                let named = source.names.get(first)?;
                if named == path || named[0] == first {
                    return None;
                }
                let whole: Module = named.iter().chain(&path[1..]).cloned().collect();
                return self.owner(module, &whole, depth + 1);
            }
        };
        while let Some((next, after)) = rest.split_first() {
            let here = &self.modules[&at];
            if here.children.contains(next) {
                at.push(next.clone());
            } else if here.exported.contains(next) {
                let whole: Module = here.names[next].iter().chain(after).cloned().collect();
                return self.owner(&at, &whole, depth + 1);
            } else {
                break;
            }
            rest = after;
        }
        Some(at)
    }
}

fn list(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            list(&entry.path(), found);
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            found.push(entry.path());
        }
    }
}

impl Source {
    fn read(path: &Path, file: String) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut source = Self {
            file,
            children: BTreeSet::new(),
            names: HashMap::new(),
            exported: BTreeSet::new(),
            paths: BTreeSet::new(),
        };
        source.visit_file(&parsed);
        source
    }

    fn add_use(&mut self, tree: &syn::UseTree, mut path: Module, is_exported: bool) {
        match tree {
            syn::UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.add_use(&part.tree, path, is_exported);
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_use(tree, path.clone(), is_exported);
                }
            }
            syn::UseTree::Name(name) if name.ident == "self" => {
                let own = path[path.len() - 1].clone();
                self.add_name(own, path, is_exported);
            }
            syn::UseTree::Name(name) => {
                path.push(name.ident.to_string());
                self.add_name(name.ident.to_string(), path, is_exported);
            }
            syn::UseTree::Rename(name) => {
                path.push(name.ident.to_string());
                self.add_name(name.rename.to_string(), path, is_exported);
            }
            // Only preludes of other crates are taken as a whole.
            syn::UseTree::Glob(_) => {}
        }
    }

    fn add_name(&mut self, name: String, path: Module, is_exported: bool) {
        if is_exported {
            self.exported.insert(name.clone());
        } else {
            self.paths.insert(path.clone());
        }
        self.names.insert(name, path);
    }

    /// Paths in the arguments of a macro, which are no Rust before it is expanded.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Module = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons < 2 {
                        self.add_path(std::mem::take(&mut path));
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' && !path.is_empty() => colons += 1,
                other => {
                    self.add_path(std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.add_tokens(group.stream());
                    }
                }
            }
        }
        self.add_path(path);
    }

    fn add_path(&mut self, path: Module) {
        // A name alone is one of this file, or one that `use` has brought in.
        if path.len() > 1 {
            self.paths.insert(path);
        }
    }
}

impl<'ast> Visit<'ast> for Source {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_for_tests(item) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_exported = !matches!(item.vis, syn::Visibility::Inherited);
        self.add_use(&item.tree, Vec::new(), is_exported);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.add_path(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.add_tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

fn is_for_tests(item: &syn::Item) -> bool {
    let attributes = match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => {
            list.path.is_ident("cfg")
                && list
                    .tokens
                    .clone()
                    .into_iter()
                    .next()
                    .is_some_and(|first| matches!(first, TokenTree::Ident(name) if name == "test"))
        }
        _ => false,
    })
}
