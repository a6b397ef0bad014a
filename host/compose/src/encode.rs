//! From core modules to components.

use std::collections::BTreeSet;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME as WASI_0_1, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasm_encoder::{
    ComponentExportKind, ComponentExportSection, ComponentInstanceSection, ComponentSection,
};
use wasmparser::{Parser, Payload, Validator, WasmFeatures};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldItem};

use crate::{Declared, Error, Interfaces, Kind, one_line, wit};

/// How the custom sections begin in which a generator of bindings describes the types of a
/// module.
const TYPES: &str = "component-type";

/// Makes a component of a core module, which declares the isolation `declared`. A component stays
/// as it is, and gets the declaration.
///
/// The names of the module's imports and exports say which interfaces it uses: the function
/// `end` of `halfopen:tcp/sockets@0.1.0` is the import `end` of the module of that name, and a
/// function that it provides is an export such as `halfopen:tcp/events@0.1.0#data`, both with
/// the canonical ABI. The types are those of this project's WIT, unless the module carries its
/// own. Imports of WASI 0.1, which C libraries and Go use, become imports of WASI 0.2.
///
/// # Errors
/// [`Error::Module`] if the bytes are not a core module, or one whose imports or exports are
/// not those of a service or program.
pub fn componentize(module: &[u8], declared: Option<Declared>) -> Result<Vec<u8>, Error> {
    if Parser::is_component(module) {
        return declared.map_or(Ok(module.to_vec()), |declared| declare(module, declared));
    }
    let names = Names::of(module)?;
    let mut module = module.to_vec();
    let world = match names.typed {
        true => declared.map(|declared| world(&[], &[declared.interface()])),
        false => {
            let exports = names.exports.iter().map(String::as_str);
            let exports: Vec<_> = exports.chain(declared.map(Declared::interface)).collect();
            let imports: Vec<_> = names.imports.iter().map(String::as_str).collect();
            Some(world(&imports, &exports))
        }
    };
    if let Some(world) = world {
        let (resolve, package) = wit::resolve(&world)?;
        let world = resolve.packages[package].worlds["component"];
        check_functions(&names, &resolve, world)?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
            .map_err(|error| invalid(&error))?;
    }
    let component = encode(&module).map_err(|error| invalid(&error))?;
    let interfaces = Interfaces::of(&component)?;
    match interfaces.kind() {
        Kind::Other => Err(Error::OtherWorld(interfaces.exports_listed())),
        _ => Ok(component),
    }
}

fn encode(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    ComponentEncoder::default()
        .validate(true)
        .module(module)?
        .adapter(WASI_0_1, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?
        .encode()
}

/// Adds the export of an instance without functions to a component, which declares an isolation.
fn declare(component: &[u8], declared: Declared) -> Result<Vec<u8>, Error> {
    let before = Interfaces::unvalidated(component)?.isolation()?;
    if before == Some(declared) {
        return Ok(component.to_vec());
    }
    let types = Validator::new_with_features(WasmFeatures::all())
        .validate_all(component)
        .map_err(|error| Error::Invalid(one_line(&error.to_string())))?;
    let nothing: [(&str, ComponentExportKind, u32); 0] = [];
    let mut instances = ComponentInstanceSection::new();
    instances.export_items(nothing);
    let instance = types.as_ref().component_instance_count();
    let mut exports = ComponentExportSection::new();
    let kind = ComponentExportKind::Instance;
    exports.export(declared.interface(), kind, instance, None);
    let mut component = component.to_vec();
    instances.append_to_component(&mut component);
    exports.append_to_component(&mut component);
    // It must not declare both.
    Interfaces::of(&component)?.isolation()?;
    Ok(component)
}

/// The text of a package with one world.
fn world(imports: &[&str], exports: &[&str]) -> String {
    let mut text = "package halfopen:module;\nworld component {\n".to_owned();
    for import in imports {
        text += &format!("  import {import};\n");
    }
    for export in exports {
        text += &format!("  export {export};\n");
    }
    text + "}\n"
}

/// What the names in a module say.
#[derive(Debug, Default)]
struct Names {
    /// The interfaces of which it imports functions.
    imports: BTreeSet<String>,
    /// The interfaces of which it exports functions.
    exports: BTreeSet<String>,
    /// The functions that it exports, such as `halfopen:tcp/events@0.1.0#data`.
    functions: BTreeSet<String>,
    /// Whether it carries descriptions of its types.
    typed: bool,
}

impl Names {
    fn of(module: &[u8]) -> Result<Self, Error> {
        let mut names = Names::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload.map_err(|error| damaged(&error.to_string()))? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import.map_err(|error| damaged(&error.to_string()))?;
                        names.import(import.module, import.name)?;
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        names.export(export.map_err(|error| damaged(&error.to_string()))?.name);
                    }
                }
                Payload::CustomSection(section) => {
                    names.typed |= section.name().starts_with(TYPES);
                }
                _ => {}
            }
        }
        Ok(names)
    }

    fn import(&mut self, module: &str, name: &str) -> Result<(), Error> {
        match module {
            WASI_0_1 => {}
            interface if is_interface(interface) => {
                self.imports.insert(interface.to_owned());
            }
            // A generator of bindings has other names as well, and describes them.
            _ if self.typed => {}
            "env" => {
                return Err(Error::Module(format!(
                    "it imports `{name}` of `env`, which the linker did not find; link the library that has it"
                )));
            }
            other => {
                return Err(Error::Module(format!(
                    "it imports `{name}` of `{other}`, which is neither an interface such as `halfopen:tcp/sockets@0.1.0` nor WASI 0.1"
                )));
            }
        }
        Ok(())
    }

    fn export(&mut self, name: &str) {
        if let Some((interface, _)) = name.split_once('#')
            && is_interface(interface)
        {
            self.exports.insert(interface.to_owned());
            self.functions.insert(name.to_owned());
        }
    }
}

/// Whether a name is one such as `halfopen:tcp/events@0.1.0`.
fn is_interface(name: &str) -> bool {
    let path = name.split_once(':').map(|(_, path)| path);
    path.is_some_and(|path| path.contains('/')) && !name.starts_with("cabi_post_")
}

/// Names the first function of the exported interfaces that the module does not have.
fn check_functions(
    names: &Names,
    resolve: &Resolve,
    world: wit_parser::WorldId,
) -> Result<(), Error> {
    for item in resolve.worlds[world].exports.values() {
        let WorldItem::Interface { id, .. } = item else {
            continue;
        };
        let interface = resolve.id_of(*id).unwrap_or_default();
        for function in resolve.interfaces[*id].functions.keys() {
            let name = format!("{interface}#{function}");
            if !names.typed && !names.functions.contains(&name) {
                return Err(Error::Module(format!(
                    "it does not export `{name}`, and has other functions of this interface; export all of them"
                )));
            }
        }
    }
    Ok(())
}

fn damaged(why: &str) -> Error {
    Error::Module(format!("not a core module: {}", one_line(why)))
}

fn invalid(error: &anyhow::Error) -> Error {
    Error::Module(one_line(&format!("{error:#}")))
}
