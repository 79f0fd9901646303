# The proxy: docker build -f packaging/docker/proxy.Dockerfile -t farmhand-proxy .
# Give it /etc/farmhand with proxy.yaml, the topology and the monitor's password:
# docker run -v /etc/farmhand:/etc/farmhand:ro -p 127.0.0.1:3306:3306 farmhand-proxy
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags=-s -o /out/proxy ./proxy && mkdir -p /out/run/mysqld

FROM scratch
COPY --from=build /out/proxy /usr/bin/farmhand-proxy
COPY --from=build --chown=65532:65532 /out/run/mysqld /run/mysqld
USER 65532:65532
EXPOSE 3306
ENTRYPOINT ["/usr/bin/farmhand-proxy"]
CMD ["run", "/etc/farmhand/proxy.yaml"]
