//! What an instance takes from an engine's pool.

use wasmparser::{Validator, WasmFeatures};
use wasmtime::component::Component;

/// What one instance of a component takes from an engine's pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// Linear memories.
    pub memories: u32,
    /// Tables.
    pub tables: u32,
    /// The elements that the largest table begins with. A table of a pool grows to that
    /// many, and at least to 20,000.
    pub table_elements: usize,
    /// Whether the component may use a heap with garbage collection, which takes one more
    /// memory.
    pub garbage_collection: bool,
}

impl Default for Needs {
    /// Enough for a component that is built from one language.
    fn default() -> Self {
        Needs {
            memories: 2,
            tables: 4,
            table_elements: 0,
            garbage_collection: false,
        }
    }
}

impl Needs {
    /// Adds up what instantiation creates: a core module counts as often as it is
    /// instantiated, in nested components too, and a module that is only defined does not
    /// count.
    ///
    /// `binary` is what the component was compiled from, if that is known. Returns `None`
    /// for a component that imports core modules.
    #[must_use]
    pub fn of(component: &Component, binary: Option<&[u8]>) -> Option<Self> {
        let resources = component.resources_required()?;
        let largest = resources.max_initial_table_size.unwrap_or(0);
        Some(Needs {
            memories: resources.num_memories,
            tables: resources.num_tables,
            table_elements: usize::try_from(largest).unwrap_or(usize::MAX),
            garbage_collection: binary.is_none_or(uses_garbage_collection),
        })
    }

    /// Memories, with that of a heap.
    pub(super) fn all_memories(self) -> u32 {
        self.memories
            .saturating_add(u32::from(self.garbage_collection))
    }
}

/// Whether a valid component has types whose values live on a heap: then it is not valid
/// without the features that bring them.
fn uses_garbage_collection(binary: &[u8]) -> bool {
    let features = WasmFeatures::all()
        - WasmFeatures::GC_TYPES
        - WasmFeatures::GC
        - WasmFeatures::EXCEPTIONS
        - WasmFeatures::LEGACY_EXCEPTIONS;
    let mut validator = Validator::new_with_features(features);
    validator.validate_all(binary).is_err()
}

#[cfg(test)]
mod tests {
    use wasmtime::Store;
    use wasmtime::component::Linker;

    use super::*;
    use crate::runtime::EngineOptions;
    use crate::runtime::source::pooled;

    /// Instantiates a component as often as the pool has room, and returns its needs.
    fn needs(text: &str) -> Needs {
        let binary = wat::parse_str(text).unwrap();
        let mut options = EngineOptions {
            cache: false,
            ..EngineOptions::default()
        };
        let engine = options.build().unwrap();
        let component = Component::new(&engine, &binary).unwrap();
        let needs = Needs::of(&component, Some(&binary)).unwrap();
        options.pooled_instances = 3;
        let (engine, component) = pooled(options, &component, Some(&binary)).unwrap();
        let linker = Linker::new(&engine);
        let mut stores = Vec::new();
        for _ in 0..3 {
            let mut store = Store::new(&engine, ());
            store.set_epoch_deadline(1000);
            linker.instantiate(&mut store, &component).unwrap();
            stores.push(store);
        }
        needs
    }

    fn expected(memories: u32, tables: u32) -> Needs {
        Needs {
            memories,
            tables,
            table_elements: 0,
            garbage_collection: false,
        }
    }

    #[test]
    fn a_module_counts_as_often_as_it_is_instantiated() {
        let component = r#"(component
            (core module $m (memory 1) (table 0 funcref))
            (core instance (instantiate $m))
            (core instance (instantiate $m))
            (core instance (instantiate $m)))"#;
        assert_eq!(needs(component), expected(3, 3));
    }

    #[test]
    fn a_nested_component_counts_as_often_as_it_is_instantiated() {
        let component = r#"(component
            (component $c
                (core module $m (memory 1))
                (core instance (instantiate $m))
                (core instance (instantiate $m)))
            (instance (instantiate $c))
            (instance (instantiate $c)))"#;
        assert_eq!(needs(component), expected(4, 0));
    }

    #[test]
    fn what_is_only_defined_does_not_count() {
        let component = r#"(component
            (core module $used (memory 1))
            (core module $unused (memory 1) (table 0 funcref))
            (component $unused
                (core module $m (memory 1))
                (core instance (instantiate $m)))
            (core instance (instantiate $used)))"#;
        assert_eq!(needs(component), expected(1, 0));
    }

    #[test]
    fn one_module_may_have_several_memories_and_tables() {
        let component = r#"(component
            (core module $m
                (memory 1) (memory 1)
                (table 0 funcref) (table 30000 funcref))
            (core instance (instantiate $m)))"#;
        let expected = Needs {
            table_elements: 30_000,
            ..expected(2, 2)
        };
        assert_eq!(needs(component), expected);
    }

    #[test]
    fn many_core_instances_and_a_large_one_fit() {
        let functions = "(func (export \"f$\"))";
        let functions: String = (0..20_000)
            .map(|number| functions.replace('$', &number.to_string()))
            .collect();
        let instances = "(core instance (instantiate $m))".repeat(100);
        let component = format!("(component (core module $m {functions}) {instances})");
        assert_eq!(needs(&component), expected(0, 0));
    }

    #[test]
    fn a_heap_takes_a_memory() {
        let component = r#"(component
            (core module $m
                (type $point (struct (field i32)))
                (memory 1)
                (global (ref $point) (struct.new $point (i32.const 1))))
            (core instance (instantiate $m)))"#;
        let expected = Needs {
            garbage_collection: true,
            ..expected(1, 0)
        };
        assert_eq!(needs(component), expected);
    }
}
