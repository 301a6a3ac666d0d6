# The image of the sidecar: one program on a root without a shell, run as 65532. docs/decisions/0014-image.md says why it is so;
# scripts/image builds and checks it, with or without a registry. With another builder:
#   docker build --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" --tag producer-sidecar .
# Both bases have to be of one Debian release: the program needs the C library that it was linked against.
ARG BUILDER=docker.io/library/rust:1.95-trixie
ARG RUNTIME=gcr.io/distroless/cc-debian13:nonroot

# The crates and librdkafka: built again when Cargo.toml or Cargo.lock changes, not with every change of the sources. The builder has
# to have OpenSSL's headers (libssl-dev) and pkg-config: the program links the shared library that the runtime has.
# This stage runs on the machine that builds, whatever the image is for; another architecture is compiled for, not emulated.
FROM --platform=$BUILDPLATFORM ${BUILDER} AS dependencies
# CARGO_NET_OFFLINE: whether the crates are in a registry folder that was mounted, and nothing is to be downloaded.
ARG BUILDARCH TARGETARCH PROFILE=release CARGO_NET_OFFLINE=false
WORKDIR /src
COPY Cargo.toml Cargo.lock scripts/image-cargo ./
COPY tests/support/Cargo.toml tests/support/
RUN ./image-cargo dependencies

FROM dependencies AS build
# Again: not every builder of images hands them on to a stage that begins with another.
ARG BUILDARCH TARGETARCH PROFILE=release CARGO_NET_OFFLINE=false
COPY . .
RUN ./image-cargo program /out

FROM ${RUNTIME}
COPY --from=build /out/ /
# By number, so that Kubernetes' runAsNonRoot can tell that it is not root.
USER 65532:65532
EXPOSE 50051 9464
ENTRYPOINT ["producer-sidecar"]
CMD ["serve"]
# Last, because they change with every commit.
ARG VERSION=unknown REVISION=unknown CREATED=unknown SOURCE=unknown
LABEL org.opencontainers.image.title="producer-sidecar" \
      org.opencontainers.image.description="Runs beside an application and produces to Kafka for it, over gRPC" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.licenses="Apache-2.0"
