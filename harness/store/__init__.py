"""The lab's database: Inventories, commissioned HANs and runs, as plain JSON values; knows not what they mean."""
