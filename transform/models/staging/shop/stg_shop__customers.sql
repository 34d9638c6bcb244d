with

    source as (select * from {{ source("shop", "customers") }}),

    final as (

        select
            -- ids
            cast(customer_id as bigint) as customer_id,

            -- strings
            cast(email as varchar) as email,
            cast(age as varchar) as age,
            cast(income as varchar) as income,

            -- timestamps
            cast(created_at as timestamp) as created_at,
            cast(updated_at as timestamp) as updated_at,
            _sdc_batched_at as loaded_at

        from source
        where _sdc_deleted_at is null

    )

select *
from final
