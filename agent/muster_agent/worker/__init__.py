"""A worker: the process that loads one model, proves it on this device, and answers inference."""
