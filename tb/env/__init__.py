"""The pyuvm environment of the whole machine: agents at its pins, a register model, and a scoreboard that
predicts from what the monitors saw.
"""
