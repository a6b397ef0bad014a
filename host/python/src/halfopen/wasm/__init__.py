"""Runs core modules with wasmtime, with as little as possible between Python and C."""
