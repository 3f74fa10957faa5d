"""Where a sort stops scaling: measured tasks, laid on 1 to 256 workers.

`measure` sorts recordings with every task by itself on the clock, `growth` carries the costs over to longer recordings
of more channels, `schedule` lays the tasks on workers, `report` writes down what comes out, and the assumptions.
"""
