"""Two models on the same fresh problems, pair by pair: asked in turn, judged by the gate, told in three forms."""
