"""Uses the extension from several threads, and checks what it recorded."""

import os
import sys
import tempfile
import threading

import recorded


def work(number):
    recorded.name_thread(f"python {number}")
    for _ in range(50):
        assert recorded.add([0.5] * 100) == 50.0


threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
with tempfile.TemporaryDirectory() as directory:
    path = os.path.join(directory, "python.lbk")
    recorded.save(path)
    assert os.path.getsize(path) > 1000
calls = recorded.stop()
sys.exit(0 if calls == 150 else f"{calls} calls were recorded, of 150")
