"""Protection of control packets: one module for each kind, one interface (`base.Wrapping`)."""
