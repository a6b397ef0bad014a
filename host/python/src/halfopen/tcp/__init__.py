"""The connections of a service: sockets, and what their events are.

Rules such as K6 are in `wit/SEMANTICS.md` of the project.
"""
