"""The tables of the lab's database. Whoever changes one gives SCHEMA the next number."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Integer, MetaData, String, Table, Text

SCHEMA = 1
LONGEST_NAME = 100

TABLES = MetaData()
VERSION = Table("harness_schema", TABLES, Column("version", Integer, primary_key=True, autoincrement=False))
INVENTORIES = Table(
    "harness_inventories",
    TABLES,
    Column("name", String(LONGEST_NAME), primary_key=True),
    Column("length", Integer, nullable=False),  # of its log: a log that lost its end does not pass for whole
    Column("term", Integer, nullable=False),  # how often it was opened: only the last to do so may write
    Column("holder", Text),  # who has it open
    Column("crc", BigInteger, nullable=False),
)
EVENTS = Table(
    "harness_events",
    TABLES,
    Column("inventory", String(LONGEST_NAME), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("value", Text, nullable=False),
    Column("crc", BigInteger, nullable=False),
)
SNAPSHOTS = Table(
    "harness_snapshots",
    TABLES,
    Column("inventory", String(LONGEST_NAME), primary_key=True),
    Column("number", Integer, nullable=False),  # of the last event that is in it; 0: none is
    Column("value", Text, nullable=False),
    Column("crc", BigInteger, nullable=False),
)
HANS = Table(
    "harness_hans",
    TABLES,
    Column("name", String(LONGEST_NAME), primary_key=True),
    Column("value", Text, nullable=False),
    Column("crc", BigInteger, nullable=False),
)
RUNS = Table(
    "harness_runs",
    TABLES,
    Column("number", Integer, primary_key=True),
    Column("rig", Text, nullable=False),
    Column("started", Double, nullable=False),
    Column("ended", Double),
    Column("outcome", Text),
    Column("crc", BigInteger, nullable=False),
)
