"""Run the processor: `python -m processor`."""

from processor.worker import main

if __name__ == "__main__":  # the detection's child process imports this module too
    main()
