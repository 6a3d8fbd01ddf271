"""mnistlab: config-driven image-classification experiments, recorded and compared."""
