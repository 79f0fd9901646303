# A database node: docker build -f packaging/docker/sidecar.Dockerfile -t farmhand-sidecar .
# docker run -v /etc/farmhand:/etc/farmhand -v /var/lib/farmhand:/var/lib/farmhand --network host farmhand-sidecar
# It is the first process, and ends the database server in order when it is stopped: give it
# time (docker stop -t 600).
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags=-s -o /out/ ./sidecar ./proxy

FROM debian:stable-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates mariadb-server mariadb-backup && rm -rf /var/lib/apt/lists/* /var/lib/mysql
COPY --from=build /out/sidecar /out/proxy /usr/lib/farmhand/
RUN ln -s /usr/lib/farmhand/sidecar /usr/bin/farmhand-sidecar && ln -s /usr/lib/farmhand/proxy /usr/bin/farmhand-proxy
ENTRYPOINT ["/usr/bin/farmhand-sidecar"]
CMD ["run", "/etc/farmhand/sidecar.yaml"]
