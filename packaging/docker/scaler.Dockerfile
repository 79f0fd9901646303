# The scaler: docker build -f packaging/docker/scaler.Dockerfile -t farmhand-scaler .
# Its directory is of scaler registry init, and has the farm's keys:
# docker run -v /var/lib/farmhand/control:/var/lib/farmhand/control --network host farmhand-scaler
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags=-s -o /out/scaler ./scaler

# Certificates, for the object store and the cloud's API.
FROM debian:stable-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/scaler /usr/bin/farmhand-scaler
EXPOSE 2379 2380 2381
ENTRYPOINT ["/usr/bin/farmhand-scaler"]
CMD ["run", "/var/lib/farmhand/control"]
