"""franz-go's own tests, those of `franz-go.allow`."""
import os, sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import go_tests
from allow import chosen
from check import ADDRESS, say
from install import franz_go_tests

FOLDER, RECORDS = franz_go_tests(), 100_000


def main():
    names = chosen("franz-go.allow", "--fast" in sys.argv)
    say(f"note franz-go's tests, {len(names)} tests")
    go_tests.run(names, FOLDER + "/tests", FOLDER, KGO_SEEDS=ADDRESS, KGO_TEST_RF="1", KGO_TEST_RECORDS=str(RECORDS), KGO_LOG_LEVEL="none")
    say("done")


main()
