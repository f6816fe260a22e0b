"""What others see of a device and a server: metrics for Prometheus, in `prometheus`."""
