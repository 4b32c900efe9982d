"""Speed and memory of LSTMs on the same work: work -> competitors -> same_work -> timing -> result -> table, plot."""
