package sallyport.allow

import data.sallyport.request

# METADATA
# title: The stock database
# custom: {id: stock-publish, owner: retail-it@example.com, ticket: SEC-90, expires: never}
publish["stock-db"] contains rego.metadata.rule() if {
	request.target_is("stock.corp.example", 5432)
	net.cidr_contains("10.50.0.0/24", input.target.address)
}

# METADATA
# title: No store takes more than its share
# custom: {id: stock-share, owner: retail-it@example.com, limits: {max_streams_per_principal: 20, idle_seconds: 600}}
limits["stock-db"] contains rego.metadata.rule()
