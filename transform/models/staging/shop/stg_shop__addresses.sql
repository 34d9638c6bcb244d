with

    source as (select * from {{ source("shop", "addresses") }}),

    final as (

        select
            -- ids
            cast(address_id as bigint) as address_id,
            cast(customer_id as bigint) as customer_id,

            -- strings
            cast(street as varchar) as street,
            cast(postcode as varchar) as postcode,
            cast(city as varchar) as city,

            -- timestamps
            cast(updated_at as timestamp) as updated_at,
            _sdc_batched_at as loaded_at

        from source
        where _sdc_deleted_at is null

    )

select *
from final
