"""Processes and devices: kinds of device, ranks, commands, worker pools, lifetimes. Knows no network."""
