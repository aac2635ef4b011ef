"""One page for any results, which a browser opens without a network. It arranges what figures and reports hold."""
