//! Routing decisions: `ip_route_input`, `ip_route_output`, source selection, reverse path filter.
