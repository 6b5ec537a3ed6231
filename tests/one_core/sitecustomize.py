"For processes that tests start: one core each, since tests run side by side, and a pool costs more than it brings."
import os

os.cpu_count = lambda: 1
