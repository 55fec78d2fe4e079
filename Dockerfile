# syntax=docker/dockerfile:1
# One image for the API, the worker and `migrate`; which of them it is, the command says.

FROM node:20-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The lock file may lack packages of other platforms, which npm ci refuses; an install takes the same versions from it.
RUN --mount=type=cache,target=/root/.npm \
    npm ci --include=dev --include=optional || npm install --no-save --include=dev --include=optional
COPY . .
# Compiles, copies the SQL beside the compiled code and builds the workflow bundle.
RUN node local/bootstrap.mjs build

FROM node:20-bookworm-slim AS production
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# Optional packages are the embedded servers and the compilers: neither is needed to run.
RUN --mount=type=cache,target=/root/.npm \
    npm ci --omit=dev --omit=optional || npm install --no-save --omit=dev --omit=optional

FROM node:20-bookworm-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=production /app/node_modules ./node_modules
COPY --from=build /app/package.json ./
COPY --from=build /app/dist ./dist
USER node
EXPOSE 8080
CMD ["node", "dist/api/main.js"]
