"""What deploys and watches the service on Kubernetes."""
