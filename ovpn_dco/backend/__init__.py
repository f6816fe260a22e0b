"""Engines behind one interface: `base` says what a device needs of one."""
