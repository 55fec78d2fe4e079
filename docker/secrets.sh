#!/bin/sh
# Makes the secrets that docker-compose.yml reads, in docker/.secrets/ or the folder given. What is there is kept, so it
# may be run again; the URLs are made anew from the passwords in them.
#
# The folder is its owner's alone. The files in it can be read by all, since each container reads its own as another user.
set -eu
umask 077
folder=${1:-$(dirname "$0")/.secrets}
mkdir -p "$folder"
chmod 700 "$folder"

write() { # NAME TEXT; whole or not at all
  printf '%s' "$2" >"$folder/$1.new"
  chmod 444 "$folder/$1.new"
  mv -f "$folder/$1.new" "$folder/$1"
}
hex() { od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'; }
once() { # NAME BYTES
  [ -s "$folder/$1" ] || write "$1" "$(hex "$2")"
}
of() { cat "$folder/$1"; }

for name in postgres_password role_password_owner role_password_catalogue role_password_runtime role_password_purge \
  role_password_lookup mongo_root_password redis_password temporal_postgres_password api_token; do
  once "$name" 24
done
once mongo_key_file 48
[ -s "$folder/root_key" ] || write root_key "$(head -c 32 /dev/urandom | base64 | tr -d '\n')"

postgres() { # USER PASSWORD DATABASE
  printf 'postgresql://%s:%s@postgres:5432/%s' "$1" "$(of "$2")" "$3"
}
write postgres_admin_url "$(postgres postgres postgres_password postgres)"
write catalogue_url "$(postgres tenantry_catalogue role_password_catalogue tenantry_control)"
write cell_postgres_owner_url "$(postgres tenantry_owner role_password_owner tenantry_cell)"
write cell_postgres_control_url "$(postgres tenantry_catalogue role_password_catalogue tenantry_cell)"
write cell_postgres_runtime_url "$(postgres tenantry_runtime role_password_runtime tenantry_cell)"
write cell_postgres_purge_url "$(postgres tenantry_purge role_password_purge tenantry_cell)"
write cell_mongo_url "mongodb://root:$(of mongo_root_password)@mongo:27017/?authSource=admin&replicaSet=tenantry"
write cell_redis_url "redis://default:$(of redis_password)@redis:6379"
