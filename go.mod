module github.com/go-dsm/dsm

go 1.25.0

require (
	github.com/pion/dtls/v2 v2.2.12
	github.com/pion/logging v0.2.4
	github.com/pion/transport/v2 v2.2.10
	github.com/stretchr/testify v1.11.1
	golang.org/x/net v0.48.0
	golang.org/x/sys v0.39.0
)

require (
	github.com/davecgh/go-spew v1.1.1 // indirect
	github.com/pion/transport/v3 v3.1.1 // indirect
	github.com/pmezard/go-difflib v1.0.0 // indirect
	golang.org/x/crypto v0.46.0 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)
