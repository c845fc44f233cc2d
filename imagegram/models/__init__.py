"""Networks: plain torch modules without data, training or files; what trains them is elsewhere."""
