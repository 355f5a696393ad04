"""Seeded schedules of faults and crashes: never silently paid twice, never a row lost.

The whole package runs for real (client, SDK, SQLite, files) against the emulator in this process,
on a virtual clock. What is simulated is what surrounds it: processes and the threads in them
(`turns`), the disk (`disk`), the network (`network`), the server and other people (`world`), and
what a person does with it all (`schedule`). `judge` asks the server who paid for what. Everything
follows from one seed: ``python -m tests.simulator --seed 1234 --trace``.
"""
