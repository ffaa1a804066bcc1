#!/usr/bin/env bash
# redis.sh with Valkey in place of Redis.
exec bash "$(dirname "$0")/redis.sh" valkey "$@"
