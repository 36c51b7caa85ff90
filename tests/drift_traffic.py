"""Rows for the toy that reach every bin of its reference, and a recount of what was sent and answered."""

import numpy as np

DRIFT = "/v1/models/toy/drift"
AMOUNTS = (0, 0.3, 0.5, 1, 3, 6.5, 10.17, 12, 99.5, 100, 500, 730.25, 1000)
HOURS = (0, 5, 6, 11, 12, 17, 18, 22, 23)
BALANCES = (None, -900, -50, -3, -1.25, 0, 0.5, 1.5, 2, 3.75, 40, 1e6)
SEXES = ("female", "male", "declined", "quetzalcoatl", None)
AGES = ("18-29", "30-49", "50+", None)


def rows(n, *, seed=7):
    """n instances as they are posted, most of them small."""
    chance = np.random.default_rng(seed)

    def pick(values, *, plain=0.5):
        return values[0] if chance.random() < plain else values[chance.integers(len(values))]

    return [
        {
            "amount": pick(AMOUNTS),
            "hour": pick(HOURS),
            "cross_border": (0, 1, False, True)[chance.integers(4)],
            "entry_mode": pick(("chip", "contactless", "online")),
            "balance": BALANCES[chance.integers(len(BALANCES))],
        }
        for _ in range(n)
    ]


def people(n, *, seed=7):
    """n rows of sensitive features: declared, declined, undeclared, absent."""
    chance = np.random.default_rng(seed)
    made = [{"sex": SEXES[chance.integers(5)], "age_band": AGES[chance.integers(4)]} for _ in range(n)]
    return [{name: group for name, group in row.items() if group is not None} for row in made]


def body(instances, groups=None, **fields):
    """A request."""
    made = {"instances": instances} | fields
    return made if groups is None else made | {"sensitive_features": groups}


def bodies(n, *sizes, seed=7):
    """n rows with their people, in requests of these sizes, over and over."""
    made, start = [], 0
    all_rows, all_people = rows(n, seed=seed), people(n, seed=seed)
    while start < n:
        end = start + sizes[len(made) % len(sizes)]
        made.append(body(all_rows[start:end], all_people[start:end]))
        start = end
    return made


class Sent:
    """What was posted to a package and answered with 200."""

    def __init__(self, package):
        self.package = package
        self.instances, self.groups, self.ids, self.scores, self.labels, self.values = ([] for _ in range(6))

    def add(self, request, response):
        """Note a request and its answer, which must be a good one."""
        assert response.status_code == 200, response.text
        answer = response.json()
        self.instances += request["instances"]
        self.groups += request.get("sensitive_features") or [{}] * len(request["instances"])
        self.ids += [prediction["id"] for prediction in answer["predictions"]]
        self.scores += [prediction["probability"] for prediction in answer["predictions"]]
        self.labels += [prediction["label"] for prediction in answer["predictions"]]
        self.values += [np.ravel(entry["values"]) for entry in answer.get("explanations", []) if "values" in entry]
        return self

    def of_feature(self, number):
        """Counts of a feature's bins."""
        name = self.package.manifest["features"][number]["name"]
        return self.package.features[number].count([row[name] for row in self.instances])

    def of_scores(self):
        """Counts of the bins of the positive class."""
        return self.package.scores[self.package.positive].count(self.scores)

    def mine(self, name, group):
        """The numbers of the rows of a group."""
        return [i for i, row in enumerate(self.groups) if self.package.group_of(name, row) == group]

    def of_group_scores(self, name, group):
        """Counts of the same bins, of a group."""
        return self.package.scores[self.package.positive].count([self.scores[i] for i in self.mine(name, group)])

    def calibrated(self, name, group):
        """{predicted: (rows, sum of p, sum of p (1 - p))} of a group."""
        mine = self.mine(name, group)
        scores, labels = ([table[i] for i in mine] for table in (self.scores, self.labels))
        return self.package.calibrated_sums(name, group, scores, labels)


def post(client, sent, *requests, model="toy"):
    """Post requests one after the other and note the answers."""
    for request in requests:
        sent.add(request, client.predict(request, model=model))
    return sent


def report(client, **query):
    """The JSON report of the toy."""
    response = client.get(DRIFT, params=query)
    assert response.status_code == 200, response.text
    return response.json()


def send(client, package, n=600, **fields):
    """n rows with ids, as they come."""
    sent = Sent(package)
    for number, request in enumerate(bodies(n, 50, 7, 1)):
        ids = [f"{number}-{row}" for row in range(len(request["instances"]))]
        post(client, sent, request | {"ids": ids} | fields)
    return sent
