"""Measurements. `make bench` runs them and draws the charts; none of them is a test.

A figure is worth something next to another one that was taken on the same machine in the same
minute. So every measurement races: in each round all contestants run one after the other, and a
result is the median of the rounds with the ratio to a limit of the machine or to a rival.
"""
