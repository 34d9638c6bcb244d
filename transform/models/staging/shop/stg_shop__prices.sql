with

    source as (select * from {{ source("shop", "prices") }}),

    final as (

        select
            -- ids
            cast(product_id as bigint) as product_id,

            -- numerics
            cast(price as decimal(12, 2)) as price,

            -- timestamps
            cast(valid_from as date) as valid_from,
            cast(updated_at as timestamp) as updated_at,
            _sdc_batched_at as loaded_at

        from source
        where _sdc_deleted_at is null

    )

select *
from final
