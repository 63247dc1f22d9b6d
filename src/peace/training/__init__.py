"""Training of embedders: LightningModule, DataModule, callbacks, samplers."""
