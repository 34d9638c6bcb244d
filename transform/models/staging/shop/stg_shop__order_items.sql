with

    source as (select * from {{ source("shop", "order_items") }}),

    final as (

        select
            -- ids
            cast(order_id as bigint) as order_id,
            cast(product_id as bigint) as product_id,

            -- numerics
            cast(line_number as integer) as line_number,
            cast(quantity as integer) as quantity,
            cast(amount as decimal(12, 2)) as amount,
            cast(discount as decimal(12, 2)) as discount,

            -- timestamps
            cast(updated_at as timestamp) as updated_at,
            _sdc_batched_at as loaded_at

        from source
        where _sdc_deleted_at is null

    )

select *
from final
