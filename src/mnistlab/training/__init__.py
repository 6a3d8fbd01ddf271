"""The network and how it is trained: models, augmentation, Keras's fit or the compiled engine, callbacks, saving."""
