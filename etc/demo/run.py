#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The service of the demo and of the end-to-end tests: a plain Flask application.

It is what many people run: `nohup python3 ./run.py > ./logs/logs.out 2>&1 &`. The development
server gives each connection a thread and a descriptor and has no time-out of its own.
HOST and PORT come from the environment.
"""
import os
import time

from flask import Flask, request

app = Flask(__name__)


@app.route("/hello_world")
def hello_world():
    return "hello " + request.args.get("name", "world") + "\n"


@app.route("/hello_flask", methods=["POST"])
def hello_flask():
    return "hello flask\n"


@app.route("/account", methods=["POST"])
def account():
    """A log-in that nobody passes."""
    return "wrong password\n", 401


@app.route("/slow")
def slow():
    time.sleep(min(float(request.args.get("seconds", "1")), 120.0))
    return "done\n"


if __name__ == "__main__":
    app.run(host=os.environ.get("HOST", "0.0.0.0"), port=int(os.environ.get("PORT", "8001")))
